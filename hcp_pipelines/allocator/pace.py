"""When a facility's next plan is due: at a new tick, when asked, when a ramp has room again, and every half second."""

from hcp_pipelines.allocator.market import Latest
from hcp_pipelines.domain.clock import Clock

CHECK_EACH_S = 0.5  # real: holds, expiries and dwell times are looked at so often without a tick
AFTER_RELEASE_S = 1e-3  # simulated: a booking has then left its window whatever the rounding


class Pace:
    """Where the facility is with the newest tick."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tick_id, self.number = -1, 0  # the tick that was planned with last, and which plan with it that was
        self.is_incomplete = False  # a ramp held back a part of it
        self._is_asked = True
        self._planned_at_s = float("-inf")  # real monotonic
        self._room_at_s = float("inf")  # simulated: a ramp that bound has room again

    def ask(self) -> None:
        """Something changed that a plan should look at."""
        self._is_asked = True

    def is_new(self, tick: Latest | None) -> bool:
        """Whether nothing was planned with a tick yet."""
        return tick is not None and tick.tick_id != self.tick_id

    def is_due(self) -> bool:
        """Whether there is something to plan without a new tick."""
        is_time = self._clock.monotonic_s() - self._planned_at_s >= CHECK_EACH_S
        return self._is_asked or is_time or self.has_room_in_s() <= 0

    def begin(self, new_tick: Latest | None) -> None:
        """A plan is made now; `new_tick` is None where no new tick led to it."""
        self._planned_at_s, self._is_asked = self._clock.monotonic_s(), False
        self._room_at_s = float("inf")
        if new_tick is not None:
            self.tick_id, self.number, self.is_incomplete = new_tick.tick_id, -1, False
        self.number += 1

    def has_room_in_s(self) -> float:
        """Real seconds until a ramp that held devices back lets go of some; infinite when none does."""
        return (self._room_at_s - self._clock.now().timestamp()) / self._clock.speed

    def wait_for_room(self, release_s: float | None) -> None:
        """A ramp bound; its next booking leaves the window at this simulated second, if there is one."""
        self._room_at_s = float("inf") if release_s is None else release_s + AFTER_RELEASE_S
