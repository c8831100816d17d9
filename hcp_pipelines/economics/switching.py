"""What a switch costs: revenue forgone until the new state earns, and wear. Dollars per switch, before any strike.

Both ways: going up costs time and wear, going down costs only what must be saved first. How long devices take to *arrive*, which
is what commands are judged by, is in `devices.settling`; here are the minutes that are lost in money.
"""

from dataclasses import dataclass
from enum import StrEnum

from hcp_pipelines.domain.modes import DeviceState, Mode, ResourceType
from hcp_pipelines.economics.bounds import check

REFERENCE_HASH_RATE_TH_PER_S = 200.0  # the machine whose wear is $0.05 in the golden case
CHECKPOINT_EVERY_MINUTES = 30.0  # of a training job that was not told beforehand; a setting


class SwitchKind(StrEnum):
    """The kinds of switch that cost differently."""

    ASIC_WAKE = "asic_wake"
    ASIC_SLEEP = "asic_sleep"
    ASIC_PROFILE = "asic_profile"
    GPU_LOAD = "gpu_load"
    GPU_REST = "gpu_rest"
    TRAINING_RESUME = "training_resume"
    TRAINING_PAUSE = "training_pause"


@dataclass(frozen=True, slots=True)
class SwitchCost:
    """Cost of one switch: so many minutes of the revenue of the state that is switched into (a pause: out of), and dollars."""

    minutes: float
    fixed_usd: float
    source: str = ""

    def at(self, revenue_usd_per_hour: float) -> float:
        """Dollars of one switch at a revenue in $/h."""
        return revenue_usd_per_hour * self.minutes / 60 + self.fixed_usd


COSTS = {
    SwitchKind.ASIC_WAKE: SwitchCost(
        10.0, 0.05, "golden case of the back-test: 10 min of hashing, $0.05 of wear at 200 TH/s"
    ),
    SwitchKind.ASIC_SLEEP: SwitchCost(0.0, 0.0, "golden case: charged with the wake; power falls as the hashing ends"),
    SwitchKind.ASIC_PROFILE: SwitchCost(0.0, 0.0, "full over eco has no band (OPTIMIZER §3): it hashes all the while"),
    SwitchKind.GPU_LOAD: SwitchCost(1.0, 0.0, "cold reload of a small model 38 to 58 s (FACTS §6)"),
    SwitchKind.GPU_REST: SwitchCost(0.0, 0.0, "requests under way are finished; drained in seconds"),
    SwitchKind.TRAINING_RESUME: SwitchCost(3.0, 0.0, "restart from the job's own checkpoint: 60 to 180 s (setting)"),
    SwitchKind.TRAINING_PAUSE: SwitchCost(1.5, 0.0, "a checkpoint of the job's own: 20 to 90 s (setting)"),
}


def switch_kind(resource_type: ResourceType, from_state: DeviceState, to_state: DeviceState) -> SwitchKind | None:
    """The kind of a switch; None where nothing changes, or between states that don't earn.

    >>> switch_kind(ResourceType.ASIC, DeviceState.MINING_ECO, DeviceState.MINING_FULL).value
    'asic_profile'
    >>> switch_kind(ResourceType.GPU, DeviceState.TRAINING, DeviceState.INFERENCE_BATCH).value
    'gpu_load'
    """
    if from_state is to_state or not (_earns(from_state) or _earns(to_state)):
        return None
    if resource_type is ResourceType.GPU:
        if to_state is DeviceState.TRAINING:
            return SwitchKind.TRAINING_RESUME
        if _earns(to_state):
            return SwitchKind.GPU_LOAD
        return SwitchKind.TRAINING_PAUSE if from_state is DeviceState.TRAINING else SwitchKind.GPU_REST
    if not _earns(from_state):
        return SwitchKind.ASIC_WAKE
    return SwitchKind.ASIC_PROFILE if _earns(to_state) else SwitchKind.ASIC_SLEEP


def switch_cost(
    resource_type: ResourceType, from_state: DeviceState, to_state: DeviceState, hash_rate_th_per_s: float = 0.0
) -> SwitchCost:
    """Cost of one switch of one device; a miner's wear is in proportion to its size, and who leaves training saves it first.

    >>> switch_cost(ResourceType.ASIC, DeviceState.CURTAILED, DeviceState.MINING_FULL, 200.0).at(0.3)
    0.1
    """
    check(hash_rate_th_per_s=hash_rate_th_per_s)
    kind = switch_kind(resource_type, from_state, to_state)
    if kind is None:
        return SwitchCost(0.0, 0.0, "nothing is lost")
    cost = COSTS[kind]
    if kind is SwitchKind.GPU_LOAD and from_state is DeviceState.TRAINING:
        pause = COSTS[SwitchKind.TRAINING_PAUSE]
        return SwitchCost(cost.minutes + pause.minutes, 0.0, f"{pause.source}; {cost.source}")
    if kind is SwitchKind.ASIC_WAKE:
        return SwitchCost(cost.minutes, cost.fixed_usd * hash_rate_th_per_s / REFERENCE_HASH_RATE_TH_PER_S, cost.source)
    return cost


def interruption_usd(revenue_usd_per_hour: float, *, is_announced: bool) -> float:
    """Dollars of taking a training job's power away and giving it back: pause, resume, and work that was not saved.

    Announced, a checkpoint is written first; else half of what lies between two is computed again, on average.

    >>> interruption_usd(2.0, is_announced=True), interruption_usd(2.0, is_announced=False)
    (0.15, 0.6)
    """
    check(revenue_usd_per_hour=revenue_usd_per_hour)
    lost = COSTS[SwitchKind.TRAINING_PAUSE].minutes if is_announced else CHECKPOINT_EVERY_MINUTES / 2
    return revenue_usd_per_hour * (lost + COSTS[SwitchKind.TRAINING_RESUME].minutes) / 60


def asic_wake_usd_per_mw(revenue_usd_per_mwh: float, efficiency_j_per_th: float) -> float:
    """Dollars to wake one MW of IT load of ASICs: r · 10/60 + 0.05 · 10^6 / (200 · E).

    Source: the golden case of the back-test.

    >>> round(asic_wake_usd_per_mw(119.0, 17.5), 2)
    34.12
    """
    check(efficiency_j_per_th=efficiency_j_per_th)
    devices_per_mw = 1e6 / (REFERENCE_HASH_RATE_TH_PER_S * efficiency_j_per_th)
    wake = COSTS[SwitchKind.ASIC_WAKE]
    return revenue_usd_per_mwh * wake.minutes / 60 + wake.fixed_usd * devices_per_mw


def _earns(state: DeviceState) -> bool:
    return state.mode not in (Mode.IDLE, Mode.CURTAILED)
