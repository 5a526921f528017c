"""Logging of the service's processes."""

import logging


def show_logs(level: str) -> None:
    """Write our and Temporal's log records from `level` on to stderr.

    Other libraries only log warnings: debug records of HTTP libraries hold prompts.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("durable_llm", "temporalio"):
        logging.getLogger(name).setLevel(level)
