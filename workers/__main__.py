"""`python -m workers [COMMAND]`: the command line from a checkout; without a command, the worker."""

import sys

from durable_llm.cli.program import main

if __name__ == "__main__":
    main(sys.argv[1:] or ["worker"])
