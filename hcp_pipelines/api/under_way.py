"""Requests under way: strangers' by address until the app knows who asks, and those of known callers all together."""

from dataclasses import dataclass

from hcp_pipelines.api import metrics
from hcp_pipelines.api.places import Places

MOST = 2000  # of known callers; more would only wait for the same few connections to Postgres, and fill the memory
STRANGERS, STRANGERS_OF_ONE = 500, 100  # in all, and of an address


class UnderWay:
    """The places."""

    def __init__(self) -> None:
        self.known = Places(MOST, MOST)
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

    def enter(self, *, is_known: bool) -> bool:
        """Take a place; False where none is free."""
        wanted = self.places.known if is_known else self.places.strangers
        if not wanted.take(self._name(wanted)):
            return False
        self._held = wanted
        self.places.count(1)
        return True

    def recognise(self) -> bool:
        """From a stranger's place to one of those who are known; False where none is free."""
        before = self._held
        if before is self.places.known:
            return True
        if not self.enter(is_known=True):
            return False
        self._give_back(before)
        return True

    def leave(self) -> None:
        """The place is free."""
        self._give_back(self._held)
        self._held = None

    def _give_back(self, held: Places | None) -> None:
        if held is not None:
            held.give_back(self._name(held))
            self.places.count(-1)

    def _name(self, places: Places) -> str:
        return self.address if places is self.places.strangers else ""
