"""What the demo and the chaos run share: starting the processes, and checking what happened.

provider.py   a simulated provider with a script and a journal
processes.py  Temporal, workers and other programs as processes
log.py        lines with the time since the start
program.py    a run as a program: signals, exit codes
evidence.py   what the providers' journals and the calls' histories have recorded
rules.py      rules for any run, and the verdict that they make up
checker.py    a checker as a program: arguments, verdict file, exit code
report.py     a verdict's rules in a terminal
"""
