"""Minimum up and down times over slots: who must wait before its power may rise, or fall, again. Pure."""

from dataclasses import dataclass

from hcp_pipelines.policy.arrays import Bools, Floats


@dataclass(frozen=True)
class DwellLocks:
    """Over slots: which must wait before their power may rise, or fall, again."""

    may_not_rise: Bools
    may_not_fall: Bools


def dwell_locks(
    changed_at_s: Floats, rose: Bools, now_s: float, min_up_s: float, min_down_s: float
) -> DwellLocks | None:
    """The locks at a simulated Unix instant; None when nothing is locked.

    `changed_at_s` is each slot's last commanded change (-inf: never), `rose` whether that change raised its power. What
    rose stays up for `min_up_s`, what fell stays down for `min_down_s`; going on in the same direction is free.
    """
    if min_up_s <= 0 and min_down_s <= 0:
        return None
    since_s = now_s - changed_at_s
    may_not_fall = rose & (since_s < min_up_s)
    may_not_rise = ~rose & (since_s < min_down_s)
    if not may_not_fall.any() and not may_not_rise.any():
        return None
    return DwellLocks(may_not_rise, may_not_fall)
