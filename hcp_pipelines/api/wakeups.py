"""One LISTEN for all streams of events: whoever waits is woken when a workload or an account changes, and looks by itself."""

import asyncio
import contextlib

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.notify import Listener
from hcp_pipelines.storage.roles import Role

WORKLOADS, ACCOUNTS = "hcp_workload", "hcp_account"


class Wakeups:
    """Take `next()` before looking, and `wait` for it afterwards: what comes in between is not missed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next = asyncio.Event()
        self.account_changes = 0

    def next(self) -> asyncio.Event:
        """What the next notification sets."""
        return self._next

    async def wait(self, event: asyncio.Event, within_s: float) -> None:
        """Until it is set, or so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), within_s)

    async def follow(self, stop: asyncio.Event) -> None:
        """Wake whoever waits at each notification, until told to stop; at the end, too."""
        async with Listener(self._settings, Role.API, [WORKLOADS, ACCOUNTS]) as listener:
            while not stop.is_set():
                if told := await listener.wait():
                    self.account_changes += any(one.channel == ACCOUNTS for one in told)
                    self._wake()
        self._wake()

    def _wake(self) -> None:
        woken, self._next = self._next, asyncio.Event()
        woken.set()
