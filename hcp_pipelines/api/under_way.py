"""Requests under way: strangers' by address until the app knows who asks, and those of known callers all together."""

from collections.abc import Callable
from dataclasses import dataclass

from hcp_pipelines.api import metrics
from hcp_pipelines.api.line import Line
from hcp_pipelines.api.places import Places

MOST = 2000  # of known callers, the others stand in line: more would only wait for the same few connections to Postgres
STRANGERS, STRANGERS_OF_ONE = 500, 100  # in all, and of an address


class UnderWay:
    """The places."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.known = Places(MOST, MOST)
        self.line = Line(self.known, now_s)
        self.strangers = Places(STRANGERS, STRANGERS_OF_ONE)
        self._all = 0

    def count(self, more: int) -> None:
        """Tell the metric."""
        self._all += more
        metrics.UNDER_WAY.set(self._all)


@dataclass
class Stay:
    """One request's place: it enters, may be recognised, and leaves."""

    places: UnderWay
    address: str
    _held: Places | None = None

    async def enter(self, caller: str | None) -> bool:
        """Take a place, a known caller in its turn; False where none is free in time."""
        if caller is None:
            return self._is_in(self.places.strangers, self.places.strangers.take(self.address))
        return self._is_in(self.places.known, await self.places.line.take(caller))

    async def recognise(self, caller: str) -> bool:
        """From a stranger's place to one of those who are known, in its turn; False where none is free in time."""
        before = self._held
        if before is self.places.known:
            return True
        if not self._is_in(self.places.known, await self.places.line.take(caller)):
            return False
        self._give_back(before)
        return True

    def leave(self) -> None:
        """The place is free."""
        self._give_back(self._held)
        self._held = None

    def _is_in(self, held: Places, is_taken: bool) -> bool:
        if is_taken:
            self._held = held
            self.places.count(1)
        return is_taken

    def _give_back(self, held: Places | None) -> None:
        if held is None:
            return
        if held is self.places.known:
            self.places.line.give_back()
        else:
            held.give_back(self.address)
        self.places.count(-1)
