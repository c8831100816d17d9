"""The table of device models: power, hashrate and profiles per model, each row with its source.

Only what a facility file names by model; a model that is missing here can be written out in the file (`states`).
How long devices take is in `devices.settling`. No prices. Figures marked *setting* have no public source and are meant to be
measured on site and overridden.
"""

from collections.abc import Set
from dataclasses import dataclass, field, replace

from hcp_pipelines.devices.settling import Transition, gpu_family, timing
from hcp_pipelines.domain.modes import RESTING, DeviceState, ResourceType

ASIC_SLEEP_KW = 0.025  # LuxOS: about 25 W asleep (docs.luxor.tech; FACTS §7)
ECO_POWER_FRACTION = 0.80  # eco profile: 80 % of the power …
ECO_HASH_FRACTION = 0.86  # … gives 86 % of the hashrate (setting; a tuned profile of one's own goes into `states`)


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state of one device: IT power in kW without PUE, hashrate, and how long it takes to get there.

    `ramp_up_s` and `ramp_down_s` are what a device needs to arrive from below or from above; `settle_s` is the deadline
    after which not having arrived is a fault.
    """

    state: DeviceState
    power_kw: float
    settle_s: float
    ramp_up_s: float = 0.0
    ramp_down_s: float = 0.0
    hash_rate_th_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """One model: `power_kw` is IT power at full profile; for a GPU it includes its share of the host."""

    model: str
    type: ResourceType
    power_kw: float
    source: str
    hash_rate_th_per_s: float = 0.0
    idle_kw: float = 0.0
    firmware: tuple[str, ...] = ("stock",)
    gpu_type: str = ""
    gpus_per_node: int = 0
    memory_gb: float = 0.0
    compute_capability: str = ""

    @property
    def efficiency_j_per_th(self) -> float:
        """Watts per TH/s at full profile (0 for what does not hash)."""
        return self.power_kw * 1000 / self.hash_rate_th_per_s if self.hash_rate_th_per_s else 0.0


_ASIC_FIRMWARE_NAMES = ("luxos", "braiins", "stock")
_MODELS = (
    DeviceModel(
        "S21", ResourceType.ASIC, 3.5, "200 TH/s at 17.5 J/TH, 3500 W: maker's figures; FACTS §1, ER-03",
        hash_rate_th_per_s=200, firmware=_ASIC_FIRMWARE_NAMES,
    ),
    DeviceModel(
        "S21 XP", ResourceType.ASIC, 3.645, "270 TH/s ± 3 % at 13.5 J/TH ± 5 %: btcminermarketplace.com; FACTS §1",
        hash_rate_th_per_s=270, firmware=_ASIC_FIRMWARE_NAMES,
    ),
    DeviceModel(
        "S19 XP", ResourceType.ASIC, 3.01, "140 TH/s at 3010 W (21.5 J/TH): miningstore.com; FACTS §1",
        hash_rate_th_per_s=140, firmware=_ASIC_FIRMWARE_NAMES,
    ),
    DeviceModel(
        "M60S", ResourceType.ASIC, 3.441, "186 TH/s at 18.5 J/TH: Riot's order; FACTS §1",
        hash_rate_th_per_s=186, firmware=("whatsminer", "whatsminer-v3"),
    ),
    DeviceModel(
        "H100 SXM5", ResourceType.GPU, 1.3,
        "board up to 700 W (arXiv 2602.05116; FACTS §1); 1.3 kW with its share of an 8-GPU node, idle 0.45 kW: settings",
        idle_kw=0.45, firmware=("stock",), gpu_type="H100", gpus_per_node=8, memory_gb=80.0, compute_capability="9.0",
    ),
)  # fmt: skip
MODELS: dict[str, DeviceModel] = {m.model: m for m in _MODELS}


def asic_states(model: DeviceModel, firmware: str) -> tuple[StateSpec, ...]:
    """Ladder of an ASIC: asleep, eco, full. A working state's deadline is that of the slowest way into it."""
    wake, sleep, step = (timing(firmware, t, model.model) for t in (Transition.WAKE, Transition.SLEEP, Transition.STEP))
    slowest_s = max(wake.deadline_s, step.deadline_s)
    up, down, hashes = wake.typical_s, step.typical_s, model.hash_rate_th_per_s
    return (
        StateSpec(DeviceState.CURTAILED, ASIC_SLEEP_KW, sleep.deadline_s, sleep.typical_s, sleep.typical_s),
        StateSpec(
            DeviceState.MINING_ECO, model.power_kw * ECO_POWER_FRACTION, slowest_s, up, down, hashes * ECO_HASH_FRACTION
        ),
        StateSpec(DeviceState.MINING_FULL, model.power_kw, slowest_s, up, down, hashes),
    )


def gpu_states(model: DeviceModel) -> tuple[StateSpec, ...]:
    """Ladder of a GPU: idle (warm), batch inference of a small model."""
    power_kw = {DeviceState.IDLE: model.idle_kw, DeviceState.INFERENCE_BATCH: model.power_kw}
    return tuple(gpu_timed(StateSpec(s, kw, 0.0), model.model, None, set(power_kw)) for s, kw in power_kw.items())


def gpu_timed(spec: StateSpec, model: str, weights_gib: float | None, states: Set[DeviceState]) -> StateSpec:
    """A state of a GPU with its times: those of the slowest way into it among `states`, the group's.

    >>> idle, batch = StateSpec(DeviceState.IDLE, 0.45, 0.0), StateSpec(DeviceState.INFERENCE_BATCH, 1.3, 0.0)
    >>> [gpu_timed(idle, "", None, {DeviceState.IDLE, work}).settle_s for work in (batch.state, DeviceState.TRAINING)]
    [50.0, 210.0]
    >>> [gpu_timed(batch, "", weights_gib, set()).settle_s for weights_gib in (16.0, 140.0)]
    [150.0, 270.0]
    """
    slowest = DeviceState.TRAINING if DeviceState.TRAINING in states else DeviceState.IDLE
    rest = timing(gpu_family(slowest), Transition.SLEEP, model)
    if spec.state in RESTING:
        return replace(spec, settle_s=rest.deadline_s, ramp_up_s=rest.typical_s, ramp_down_s=rest.typical_s)
    wake = timing(gpu_family(spec.state, weights_gib), Transition.WAKE, model)
    return replace(spec, settle_s=wake.deadline_s, ramp_up_s=wake.typical_s, ramp_down_s=rest.typical_s)


def states_of(model: DeviceModel, firmware: str) -> tuple[StateSpec, ...]:
    """The shipped ladder of a model with a firmware, rising in power."""
    return gpu_states(model) if model.type is ResourceType.GPU else asic_states(model, firmware)


@dataclass(frozen=True, slots=True)
class ResolvedGroup:
    """A group's ladder and specifications after the model table and the file's overrides."""

    ladder: tuple[StateSpec, ...]
    specifications: dict[str, object] = field(default_factory=dict)
