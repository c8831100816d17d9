"""The line of known callers for a place among the requests under way, bound by time: who can't be served soon is told at once.

Callers take turns in it, so that who sends thousands waits for its own. How long it takes is judged by how fast places came free
since it began; until enough did to judge by, whoever comes may wait. A place goes from hand to hand, and nobody gets in between.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable

from hcp_pipelines.api.places import Places

WAITS_S = 10.0  # of the time for an answer (`frame`): who has a place needs some, too
MOST, MOST_OF_ONE = 8_000, 1_000  # in all, since their connections and bodies are in memory, and of a caller
JUDGED_AFTER_S, JUDGED_BY = 2.0, 20  # places that came free, or as many as did in `WAITS_S`
AGAIN_WITHIN_S = 30  # whatever is expected: a line that hardly moved may be gone by then
REMEMBERED = 1_000  # places that came free

Waits = asyncio.Future[None]


class Line:
    """Who waits for one of `places`."""

    def __init__(self, places: Places, now_s: Callable[[], float]) -> None:
        self._places, self._now_s = places, now_s
        self._waiting: OrderedDict[str, deque[Waits]] = OrderedDict()
        self._length = 0
        self._began_s, self._freed_s = 0.0, deque[float](maxlen=REMEMBERED)

    async def take(self, caller: str) -> bool:
        """Take a place, after a while if need be; False where none is to be had in time."""
        if not self._length and self._places.take(""):
            return True
        own = len(self._waiting.get(caller, ()))
        if self._length >= MOST or own >= MOST_OF_ONE or self.expected_s() > WAITS_S:
            return False
        if not self._length:
            self._began_s = self._now_s()
            self._freed_s.clear()
        waits: Waits = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(waits)
        self._length += 1
        try:
            await asyncio.wait((waits,), timeout=WAITS_S)
        except asyncio.CancelledError:
            if waits.done():
                self.give_back()
            else:
                self._leave(caller, waits)
            raise
        if not waits.done():
            self._leave(caller, waits)
        return waits.done()

    def give_back(self) -> None:
        """A place is free again: it is the next one's."""
        if not self._waiting:
            self._places.give_back("")
            return
        self._freed_s.append(self._now_s())
        caller, waiting = self._waiting.popitem(last=False)
        waiting.popleft().set_result(None)
        self._length -= 1
        if waiting:
            self._waiting[caller] = waiting

    def expected_s(self) -> float:
        """Seconds until whoever comes now would have a place; 0 where nobody waits, or it is too early to say."""
        now_s, freed = self._now_s(), len(self._freed_s)
        if not self._length or now_s - self._began_s < (JUDGED_AFTER_S if freed >= JUDGED_BY else WAITS_S):
            return 0.0
        since_s = self._freed_s[0] if freed == REMEMBERED else self._began_s
        return self._length * (now_s - since_s) / max(freed, 1)

    def retry_after_s(self) -> int:
        """When to come again."""
        return min(max(1, math.ceil(self.expected_s())), AGAIN_WITHIN_S)

    def _leave(self, caller: str, waits: Waits) -> None:
        waiting = self._waiting[caller]
        waiting.remove(waits)
        self._length -= 1
        if not waiting:
            del self._waiting[caller]
