"""What a relay trip is to obligations: a deployment by the grid's own hand, recalled when power returns. Pure.

Nobody sent a signal and the meter has fallen before anybody knows, so that both are made up here: the deployment began when power
was lost, its baseline is what the meter showed before.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from hcp_pipelines.policy.obligations import SHED, Obligation, Signals, Status

SAMPLES_LATE = 5  # of the meter: news of lost and returned power come later than the meter shows them


@dataclass
class PowerLoss:
    """When a facility lost power, and what its meter showed before."""

    lost_at_s: float | None = None
    returned_at_s: float | None = None
    lost_mw: float = 0.0  # by the owner's reckoning, as is what there was before
    load_mw: float = 0.0
    _unconfirmed: deque[tuple[float, float]] = field(default_factory=deque)  # (Unix seconds, MW)
    _before: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_LATE))

    @property
    def lasts(self) -> bool:
        """Whether power is away."""
        return self.lost_at_s is not None and self.returned_at_s is None

    def lose(self, at_s: float, mw: float, load_mw: float) -> None:
        """Power of `mw` is lost, or more of it; `load_mw` is the facility's whole load before."""
        if not self.lasts:
            self.lost_at_s, self.returned_at_s, self.lost_mw, self.load_mw = at_s, None, 0.0, load_mw
        self.lost_mw += mw

    def regain(self, at_s: float) -> None:
        """All of it is back."""
        self.lost_at_s, self.returned_at_s = self.lost_at_s if self.lost_at_s is not None else at_s, at_s
        self._before.clear()
        self._unconfirmed.clear()

    def note(self, at_s: float, meter_mw: float) -> tuple[float, float] | None:
        """Take a sample of the meter; the one that now is sure to be from while power was away, if any."""
        if not math.isfinite(meter_mw):
            return None
        if not self.lasts:
            self._before.append(meter_mw)
            return None
        self._unconfirmed.append((at_s, meter_mw))
        return self._unconfirmed.popleft() if len(self._unconfirmed) > SAMPLES_LATE else None

    def baseline_mw(self, obligation: Obligation, meter_mw: float) -> float:
        """From what a deployment now is reckoned: the lower of the samples around it, or the meter before power was lost.

        Load that was still coming on when it was called was not there to be shed; of load that was going off, what had gone.
        Where no sample is from before the meter fell, what is lost by the owner's reckoning comes on top of the meter.
        """
        if not self.lasts or obligation.status is not Status.ARMED:
            return min((meter_mw, *list(self._before)[-2:])) if math.isfinite(meter_mw) else math.nan
        if not math.isfinite(meter_mw):
            return max(self._before, default=math.nan)
        highest_mw, half_mw = max((*self._before, meter_mw)), self.lost_mw / 2
        was_seen_to_fall, has_fallen = highest_mw - meter_mw >= half_mw, meter_mw < self.load_mw - half_mw
        return meter_mw + self.lost_mw if has_fallen and not was_seen_to_fall else highest_mw

    def signals(self, obligation: Obligation, said: Signals, now_s: float) -> Signals:
        """What the grid has said of an obligation, by signals or by its relay."""
        if self.lasts and self.lost_at_s is not None and now_s >= obligation.start_s:
            at_s = max(self.lost_at_s, obligation.start_s)
            return Signals(max(said.deploy_at_s or at_s, at_s), said.recall_at_s)
        if self.returned_at_s is not None and obligation.reason == SHED and not is_called(said):
            return Signals(said.deploy_at_s, max(said.recall_at_s or self.returned_at_s, self.returned_at_s))
        return said


def is_called(said: Signals) -> bool:
    """Whether the grid has deployed it by signal, too, and has not recalled it."""
    if said.deploy_at_s is None:
        return False
    return said.recall_at_s is None or said.recall_at_s < said.deploy_at_s
