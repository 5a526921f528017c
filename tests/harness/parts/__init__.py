"""What the demo and the chaos run share: the parts of a whole stack, and the means to judge what became of a run.

    provider.py   a simulated provider with a script and a journal
    stage.py      Temporal, workers and other programs as processes
    teller.py     a clock and a voice
    program.py    how a run becomes a program: signals, exit codes
    evidence.py   what the providers' journals and the calls' histories say
    rules.py      rules that any run must obey, and how a verdict is made of rules
    checking.py   how a checker becomes a program
    report.py     a verdict's rules, as a terminal shows them

Nothing here knows what a run is about.
"""
