"""`python -m durable_llm.cli`: the same program where no `durable-llm` script is on the path."""

from durable_llm.cli.program import main

if __name__ == "__main__":
    main()
