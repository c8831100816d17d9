"""What a miner draws, and how that is known: measured, or inferred from what it reads back, or squared with a meter. Pure.

Stock Antminers tell no wattage. Their hashrate betrays one that says it sleeps and hashes on; the meter of their feeder betrays
those whose hashrate lies too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.miner.telemetry import WORKING, Level, Telemetry
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.domain.modes import DeviceState

RATE_TOLERANCE = (
    0.10  # a hashrate so near to a level's is that level: eco is 14 % below full, five-second rates move by some %
)
ESTIMATE_TOLERANCE = 0.15  # an estimate so near to what the hashrate says is believed
POWER_TOLERANCE = 0.08  # as `edge.settling`
POWER_TOLERANCE_W = 60.0
MOST_OF_FULL = 1.5  # more than that is no wattage of this model
LEAST_OF_RATE = 0.5  # less than that does not make the hashrate which it tells beside
MANY = 0.1  # of what a feeder's devices could draw: less than that beyond their word fails nobody, but is told
METER_TOLERANCE = 0.02  # of the feeder's load: losses, and the meter's class (setting)

Floats = npt.NDArray[np.float32]


def power_of(telemetry: Telemetry, levels: Sequence[Level]) -> tuple[float, Evidence]:
    """Watts of a miner, and what they rest on.

    >>> ladder = (Level(DeviceState.CURTAILED, 25.0), Level(DeviceState.MINING_FULL, 3500.0, 200.0))
    >>> power_of(Telemetry(198.0, is_asleep=True), ladder)  # it says that it sleeps, and hashes
    (3500.0, <Evidence.INFERRED: 3>)
    >>> power_of(Telemetry(0.0, is_asleep=True), ladder)
    (25.0, <Evidence.INFERRED: 3>)
    """
    told_w, inferred_w = telemetry.power_w, _by_rate(telemetry, levels)
    if told_w is None or not 0 <= told_w <= MOST_OF_FULL * full_w(levels):
        return inferred_w, Evidence.INFERRED
    if telemetry.is_power_measured and told_w >= LEAST_OF_RATE * inferred_w:
        return told_w, Evidence.MEASURED
    if not telemetry.is_power_measured and _is_near(told_w, inferred_w, ESTIMATE_TOLERANCE):
        return told_w, Evidence.ESTIMATED
    return inferred_w, Evidence.INFERRED


def full_w(levels: Sequence[Level]) -> float:
    """The most that a miner of a ladder draws by design."""
    return max((one.power_w for one in levels), default=0.0)


def state_of(telemetry: Telemetry, levels: Sequence[Level]) -> DeviceState | None:
    """The state that a miner is in or on its way to, by its own word; None: it doesn't say."""
    if telemetry.is_asleep:
        return DeviceState.CURTAILED
    if telemetry.state_told is not None:
        return telemetry.state_told
    working = [one for one in levels if one.state in WORKING]
    if telemetry.is_asleep is None or not working:
        return None
    if telemetry.profile_w is not None:
        told_w = telemetry.profile_w
        return min(working, key=lambda one: abs(one.power_w - told_w)).state
    rate = telemetry.hash_rate_th_per_s
    nearest = min(working, key=lambda one: abs(one.hash_rate_th_per_s - rate))
    return nearest.state if _is_near(rate, nearest.hash_rate_th_per_s, RATE_TOLERANCE, 0.0) else None  # on its way


def is_there(telemetry: Telemetry, level: Level, levels: Sequence[Level]) -> bool:
    """Whether a miner is in a state by its word and by its power."""
    says_so = state_of(telemetry, levels) == level.state
    return says_so and _is_near(power_of(telemetry, levels)[0], level.power_w, POWER_TOLERANCE)


@dataclass(frozen=True, slots=True)
class Metered:
    """Power squared with the feeders' meters: of the inferred devices what was inferred plus their share of the rest."""

    power_w: Floats
    evidence: npt.NDArray[np.uint8]
    beyond_w: Mapping[str, float]  # by feeder: what the meter has beyond the devices' own word


def square_with_meters(
    power_w: Floats,
    evidence: npt.NDArray[np.uint8],
    slots_of_feeder: Mapping[str, npt.NDArray[np.int64]],
    metered_w: Mapping[str, float],
    full_w: Floats,
) -> Metered:
    """Spread what a feeder's meter has beyond its devices' own word over those that don't measure themselves, then over all.

    Only where so much is beyond it that many lie: for the few all others would be failed. It is told in any case (`beyond_w`).
    `metered_w` is IT power, `full_w` the most that each slot draws by design. What a silent device draws is anything up to
    that: only what is beyond it is held against the others.
    """
    power_w, evidence, beyond_w = power_w.copy(), evidence.copy(), dict[str, float]()
    for feeder_id, slots in slots_of_feeder.items():
        told = slots[~np.isnan(power_w[slots])]
        if feeder_id not in metered_w or len(told) == 0:
            continue
        silent_w = float(full_w[slots[np.isnan(power_w[slots])]].sum(dtype=np.float64))
        rest_w = _beyond(metered_w[feeder_id] - float(power_w[told].sum(dtype=np.float64)), silent_w)
        inferred = told[evidence[told] == Evidence.INFERRED]
        evidence[inferred] = Evidence.METERED
        if abs(rest_w) > METER_TOLERANCE * metered_w[feeder_id] + POWER_TOLERANCE_W:
            beyond_w[feeder_id] = rest_w
            if abs(rest_w) > MANY * float(full_w[told].sum(dtype=np.float64)):
                _spread(rest_w, power_w, evidence, full_w, inferred, told)
    return Metered(power_w, evidence, beyond_w)


def _beyond(rest_w: float, silent_w: float) -> float:
    """What silent devices can't account for."""
    return max(rest_w - silent_w, 0.0) if rest_w > 0 else rest_w


def _spread(
    rest_w: float,
    power_w: Floats,
    evidence: npt.NDArray[np.uint8],
    full_w: Floats,
    inferred: npt.NDArray[np.int64],
    told: npt.NDArray[np.int64],
) -> None:
    """First over those whose power is inferred, as far as they can draw; what is left over everybody: somebody's measure lies."""
    if len(inferred):
        room_w = float(np.maximum(full_w[inferred] - power_w[inferred], 0.0).sum(dtype=np.float64))
        share_w = min(rest_w, room_w) if rest_w > 0 else rest_w
        power_w[inferred] += np.float32(share_w / len(inferred))
        rest_w -= share_w
    if rest_w > METER_TOLERANCE * float(power_w[told].sum(dtype=np.float64)) + POWER_TOLERANCE_W:
        power_w[told] += np.float32(rest_w / len(told))
        evidence[told] = Evidence.METERED


def _by_rate(telemetry: Telemetry, levels: Sequence[Level]) -> float:
    """Watts that go with a hashrate: a level's where it is near one, else its share of full power."""
    rate = telemetry.hash_rate_th_per_s
    hashing = [one for one in levels if one.hash_rate_th_per_s > 0]
    asleep_w = min((one.power_w for one in levels), default=0.0)
    if not hashing or rate <= 0:
        return asleep_w
    full = max(hashing, key=lambda one: one.hash_rate_th_per_s)
    rate = min(rate, full.hash_rate_th_per_s)  # more than it can: a liar's
    told = [one for one in hashing if one.state == telemetry.state_told]
    nearest = min(told or hashing, key=lambda one: abs(one.hash_rate_th_per_s - rate))
    if told and not _is_near(rate, nearest.hash_rate_th_per_s, RATE_TOLERANCE, 0.0):
        nearest = min(hashing, key=lambda one: abs(one.hash_rate_th_per_s - rate))
    if _is_near(rate, nearest.hash_rate_th_per_s, RATE_TOLERANCE, 0.0):
        return nearest.power_w
    return asleep_w + (full.power_w - asleep_w) * rate / full.hash_rate_th_per_s


def _is_near(value: float, wanted: float, fraction: float, absolute: float = POWER_TOLERANCE_W) -> bool:
    return abs(value - wanted) <= max(fraction * abs(wanted), absolute)
