"""The Temporal server of a chaos run: killed, and started again at its address on its file."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

from workers.dev.server import DevServer, ServerOptions

_AWAY_S: Final = 0.5
"""Seconds between the kill and the start."""


class RestartedServer(DevServer):
    """The embedded server without its UI."""

    def __init__(self, data: Path) -> None:
        for file in data.parent.glob(f"{data.name}*"):  # an earlier run's, with SQLite's own beside it
            file.unlink()
        super().__init__(ServerOptions(port=0, ui_port=None, data=data))

    async def start_again(self) -> None:
        """Start where the killed server was, and wait until it answers.

        Raises:
            StackError: it does not.
        """
        await self._close()
        await asyncio.sleep(_AWAY_S)
        self._options = replace(self._options, port=int(self.address.rpartition(":")[2]))
        await self.__aenter__()
