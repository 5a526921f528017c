"""The commands that run the service: `worker`, `dev`, `codec-server` and `sweep-store`, each as a process of its own.

The service's packages have generic names (workflows, activities, workers), which a process of ours must not make
visible to anybody else; so nothing of it is imported here.
"""

from typing import Any, Final

import typer

PASS_ON: Final[dict[str, Any]] = {"allow_extra_args": True, "ignore_unknown_options": True}


def worker(context: typer.Context) -> int:
    """Run a worker until SIGTERM or Ctrl-C; settings are DURABLE_LLM_* variables."""
    return _serve(*context.args)


def dev(context: typer.Context) -> int:
    """Run Temporal with its UI and a worker until Ctrl-C; options after '--' are its own ('dev -- --help')."""
    return _serve("dev", *context.args)


def codec_server(context: typer.Context) -> int:
    """Decrypt payloads for Temporal's UI until SIGTERM or Ctrl-C; settings are DURABLE_LLM_CODEC_* variables."""
    return _serve("codec-server", *context.args)


def sweep_store(context: typer.Context) -> int:
    """Delete old prompts from the store of DURABLE_LLM_STORE; '-- --help' tells the options."""
    return _serve("sweep-store", *context.args)


def _serve(*command: str) -> int:
    from durable_llm.service import run  # noqa: PLC0415  # only these commands need it

    return run(list(command))
