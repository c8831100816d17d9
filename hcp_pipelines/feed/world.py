"""Where the simulated world is: its address from run/world.json."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

from hcp_pipelines.domain.errors import MarketError

START_TIMEOUT_S = 60.0


@dataclass
class WorldAddress:
    """The world's base URL, read anew whenever its ready file changes: a restarted world has another port."""

    ready_file: Path
    _version: tuple[int, int] | None = field(default=None, init=False)
    _url: str = field(default="", init=False)

    def __call__(self) -> str:
        """The base URL.

        Raises:
            MarketError: the world isn't ready or its file can't be read.
        """
        try:
            stat = self.ready_file.stat()
            version = (stat.st_mtime_ns, stat.st_ino)
            if version != self._version:
                self._url = str(json.loads(self.ready_file.read_text(encoding="utf-8"))["urls"]["http"])
                self._version = version
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MarketError(f"{self.ready_file}: no address of the world ({error!r}); is the world up?") from error
        return self._url


async def wait_for_world(address: WorldAddress, stop: asyncio.Event, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return when the world's address is known or `stop` is set.

    Raises:
        MarketError: it is not known in time.
    """
    waited_s = 0.0
    while not stop.is_set():
        try:
            address()
        except MarketError:
            if waited_s >= timeout_s:
                raise
        else:
            return
        await asyncio.sleep(0.1)
        waited_s += 0.1
