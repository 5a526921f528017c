"""What a process of the service logs."""

import logging


def show_logs(level: str) -> None:
    """Write our own and Temporal's log records at `level` to stderr.

    Of all other libraries only warnings: the HTTP libraries' debug records hold prompts.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("durable_llm", "temporalio"):
        logging.getLogger(name).setLevel(level)
