"""How many may be at something at once, in all and each: requests that arrive, strangers, streams of events."""

import contextlib
from collections import Counter
from collections.abc import Iterator


class Places:
    """Places by name. Taking one never waits: who finds none is told so."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._held: Counter[str] = Counter()
        self._all = 0

    def has_room(self, name: str) -> bool:
        """Whether one more is free for this name."""
        return self._all < self._most and self._held[name] < self._most_of_one

    def take(self, name: str) -> bool:
        """Take a place; False where none is free."""
        if not self.has_room(name):
            return False
        self._add(name, 1)
        return True

    def give_back(self, name: str) -> None:
        """A place that was taken is free again."""
        self._add(name, -1)

    @contextlib.contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Count one, whether or not there is room."""
        self._add(name, 1)
        try:
            yield
        finally:
            self._add(name, -1)

    def _add(self, name: str, places: int) -> None:
        self._all += places
        self._held[name] += places
        if not self._held[name]:
            del self._held[name]
