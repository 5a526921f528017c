"""The chaos run: calls against a faulty provider while workers, the Temporal server and the job are killed.

`python -m tests.harness.chaos` runs it (`make chaos`). Every part is a process of its own and is killed by
SIGKILL. At the end the checker counts what the provider's journal and the calls' histories have recorded.

    script.py     what the job asks and how the provider fails
    size.py       how many calls, how many workers, who is killed in which order
    job.py        the agent job: submits its calls with fixed ids, and again after it was killed
    server.py     the Temporal server, which starts again on its file
    processes.py  starts the processes and stops them
    kills.py      kills them, one after the other
    busy_workers.py  how many attempts each worker makes
    recovery.py   which answers were not used, and how soon calls went on after a kill
    checker.py    checks the run by its rules
    figures.py    what it counts
    report.py     the figures at the end

What it shares with the demo is in `tests/harness/parts`.
"""
