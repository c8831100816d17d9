"""One direction of a connection on a slow link: what is sent off arrives in its order, each thing as late as the link makes it.

How late that is, is drawn in `network`; what is sent is `wires`' business. Real time.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Way:
    """Things that are under way; `is_open` tells at each arrival whether anything still arrives."""

    def __init__(self, delay_s: Callable[[], float], is_open: Callable[[], bool]) -> None:
        self._delay_s = delay_s
        self._is_open = is_open
        self._queue: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_s = 0.0
        self.size = 0  # bytes under way
        self.is_held = False

    def add(self, what: Callable[[], None], size: int = 0, not_before_s: float = 0.0) -> float:
        """Send something off, at an instant of the loop's clock or now; when it arrives."""
        loop = asyncio.get_running_loop()
        self._last_s = max(self._last_s, max(loop.time(), not_before_s) + self._delay_s())
        self._queue.append((self._last_s, size, what))
        self.size += size
        self.go_on()
        return self._last_s

    def go_on(self) -> None:
        """Let happen what has arrived, and wait for the next."""
        loop = asyncio.get_running_loop()
        while self._queue and not self.is_held and self._queue[0][0] <= loop.time():
            _, size, what = self._queue.popleft()
            self.size -= size
            if not self._is_open():
                return
            what()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._queue[0][0], self.go_on) if self._queue and not self.is_held else None

    def clear(self) -> None:
        """Lose what is under way."""
        self._queue.clear()
        self.size = 0
        if self._timer is not None:
            self._timer.cancel()
