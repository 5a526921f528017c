"""The chaos run: calls against a faulty provider while workers, the Temporal server and the job are killed.

`python -m tests.harness.chaos` runs it (`make chaos`). Every part is a process of its own and dies by SIGKILL. At the end
the checker, a program that takes nobody's word, recounts from the provider's journal and the calls' histories.

    script.py     what the job asks and how the provider fails
    size.py       how many calls, how many workers, who is killed in which order
    job.py        the agent job: submits its calls with fixed ids, and again after it was killed
    server.py     the Temporal server, which starts again on its file
    stage.py      starts the parts and stops them
    director.py   kills
    at_work.py    which worker is at work
    account.py    what became of the requests, and how soon calls went on after a kill
    checker.py    the verdict
    figures.py    what it counts
    report.py     the figures at the end

What it shares with the demo is in `tests/harness/parts`.
"""
