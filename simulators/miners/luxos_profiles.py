"""LuxOS profiles: steps of 25 MHz below the machine's own frequency, with the power and hashrate that it really has there.

The full table of a real machine goes above its own frequency too; this world's machines don't.
Source: docs.luxor.tech/firmware/features (25 MHz and 0.1 V a step, 16 steps down).
"""

from itertools import pairwise
from typing import Final, NamedTuple

from simulators.miners.miner import LEAST_SHARE, Miner

_STEP_MHZ, _STEP_V = 25, 0.1
_STEPS: Final = 16
_ASLEEP_W: Final = 25.0


class Profile(NamedTuple):
    """One profile: the state it is mined in, and the limit that makes the state it; None: the state as it is."""

    name: str
    step: int
    frequency_mhz: int
    voltage_v: float
    rate_ths: float
    watts: float
    state: int
    limit_w: float | None


def profiles(miner: Miner) -> list[Profile]:
    """All profiles of a machine, rising; the last one is `default`."""
    if not miner.states:
        return []
    made = [_at(miner, step) for step in range(-_STEPS, 1)]
    least_w = LEAST_SHARE * miner.state_power_w(miner.states[-1])
    return [one for one in made if one.watts >= least_w]


def active(miner: Miner) -> Profile:
    """The profile it mines in when it mines: the one set, unless it was put into another state since."""
    known = profiles(miner)
    chosen = next((one for one in known if one.name == miner.memory.settings.get("profile")), None)
    if chosen is not None and chosen.state == miner.memory.mining_state:
        return chosen
    own = [one for one in known if one.state == miner.memory.mining_state and one.limit_w is None]
    return own[0] if own else known[-1]


def _at(miner: Miner, step: int) -> Profile:
    """The profile of a step: a state's own where one is nearest to the step, else in between."""
    full_ths = miner.state_rate_ths(miner.states[-1])
    own_mhz = miner.hardware.frequency_mhz
    mhz = own_mhz + _STEP_MHZ * step
    for state in miner.states:
        state_mhz = round(own_mhz * miner.state_rate_ths(state) / max(full_ths, 1.0))
        if abs(state_mhz - mhz) * 2 <= _STEP_MHZ:
            rate_ths, watts = miner.state_rate_ths(state), miner.state_power_w(state)
            return _named(miner, step, state_mhz, rate_ths, watts, state, None)
    rate_ths = full_ths * mhz / own_mhz
    watts, state = _power_at(miner, rate_ths)
    return _named(miner, step, mhz, rate_ths, watts, state, watts)


def _named(
    miner: Miner, step: int, mhz: int, rate_ths: float, watts: float, state: int, limit_w: float | None
) -> Profile:
    name = "default" if step == 0 else f"{mhz}MHz"
    return Profile(
        name, step, mhz, round(miner.hardware.voltage_v + _STEP_V * step, 2), rate_ths, watts, state, limit_w
    )


def _power_at(miner: Miner, rate_ths: float) -> tuple[float, int]:
    """Watts at a hashrate, on the straight lines between the states, and the state to limit."""
    points = [(0.0, _ASLEEP_W), *((miner.state_rate_ths(state), miner.state_power_w(state)) for state in miner.states)]
    for state, (low, high) in zip(miner.states, pairwise(points), strict=True):
        if rate_ths <= high[0]:
            share = (rate_ths - low[0]) / max(high[0] - low[0], 1e-6)
            return low[1] + (high[1] - low[1]) * share, state
    return points[-1][1], miner.states[-1]
