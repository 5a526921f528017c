"""The demo: an agent job's ten calls with failing providers, a killed worker and a killed job.

`python -m tests.harness.demo` runs it. Five programs take part, each a process of its own, so that a kill is a real
one: the embedded Temporal server, two simulated providers, a worker, and the agent job. A sixth, the checker, counts
at the end what the providers and Temporal recorded.

    script.py     what the job asks and how the providers fail: the only file to change for another story
    job.py        the agent job; an example of how such a job is written
    processes.py  starts the processes and stops them
    kills.py      kills two of them while their requests are open
    progress.py   prints what happens to each call
    checker.py    checks the run by its rules
    report.py     the table at the end

What it shares with the chaos run is in `tests/harness/parts`.
"""
