"""The demo: an agent job's ten calls live through failing providers, a killed worker and a killed job.

`python -m tests.harness.demo` runs it. Five programs play their parts, each a process of its own, so that killing one is
honest: the embedded Temporal server, two simulated providers, a worker, and the agent job. A sixth, the checker,
recounts at the end from what the providers and Temporal wrote down.

    script.py     what the job asks and how the providers fail: the only file to change for another story
    job.py        the agent job; an example of how such a job is written
    stage.py      starts the parts and stops them
    director.py   kills two of them at the worst moment
    narrator.py   tells in plain words what becomes of each call
    checker.py    the verdict
    report.py     the table at the end

What it shares with the chaos run is in `tests/harness/parts`.
"""
