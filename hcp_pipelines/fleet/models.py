"""The table of device models: power, hashrate, profiles and timing per model and firmware, each row with its source.

Only what a facility file names by model; a model that is missing here can be written out in the file (`states`).
No prices. Figures marked *setting* have no public source and are meant to be measured on site and overridden.
"""

from dataclasses import dataclass, field

from hcp_pipelines.domain.modes import DeviceState, ResourceType

ASIC_SLEEP_KW = 0.025  # LuxOS: about 25 W asleep (docs.luxor.tech; FACTS §7)
ECO_POWER_FRACTION = 0.80  # eco profile: 80 % of the power …
ECO_HASH_FRACTION = 0.86  # … gives 86 % of the hashrate (setting; a tuned profile of one's own goes into `states`)
SETTLE_MARGIN_S = 30.0  # two power samples and the way there and back (setting)


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
class FirmwareTiming:
    """Seconds a device takes to wake from sleep, to fall asleep, and to step between profiles."""

    wake_s: float
    sleep_s: float
    step_s: float
    source: str


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

    @property
    def efficiency_j_per_th(self) -> float:
        """Watts per TH/s at full profile (0 for what does not hash)."""
        return self.power_kw * 1000 / self.hash_rate_th_per_s if self.hash_rate_th_per_s else 0.0


ASIC_FIRMWARE: dict[str, FirmwareTiming] = {
    "luxos": FirmwareTiming(10.0, 5.0, 10.0, "vendor: ~25 W in < 5 s, full power in < 10 s (FACTS §7)"),
    "whatsminer": FirmwareTiming(10.0, 10.0, 30.0, "fast boot: > 85 % of target power within 10 s (FACTS §7)"),
    "braiins": FirmwareTiming(60.0, 10.0, 30.0, "setting; SetQuickRamping makes it adjustable"),
    "stock": FirmwareTiming(240.0, 20.0, 60.0, "setting; proxy: hashrate trusted after 5 minutes (FACTS §7)"),
}
GPU_TIMING = FirmwareTiming(60.0, 10.0, 10.0, "vLLM cold reload 38–58 s (FACTS §6)")

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
        hash_rate_th_per_s=186, firmware=("whatsminer",),
    ),
    DeviceModel(
        "H100 SXM5", ResourceType.GPU, 1.3,
        "board up to 700 W (arXiv 2602.05116; FACTS §1); 1.3 kW with its share of an 8-GPU node, idle 0.45 kW: settings",
        idle_kw=0.45, firmware=("stock",), gpu_type="H100", gpus_per_node=8,
    ),
)  # fmt: skip
MODELS: dict[str, DeviceModel] = {m.model: m for m in _MODELS}


def asic_states(model: DeviceModel, firmware: str) -> tuple[StateSpec, ...]:
    """Ladder of an ASIC: asleep, eco, full."""
    t = ASIC_FIRMWARE.get(firmware, ASIC_FIRMWARE["stock"])
    up, step, down = t.wake_s, t.step_s, t.sleep_s
    hashes = model.hash_rate_th_per_s
    return (
        StateSpec(DeviceState.CURTAILED, ASIC_SLEEP_KW, 2 * down + SETTLE_MARGIN_S, down, down),
        StateSpec(
            DeviceState.MINING_ECO, model.power_kw * ECO_POWER_FRACTION, 2 * max(up, step) + SETTLE_MARGIN_S, up, step,
            hashes * ECO_HASH_FRACTION,
        ),
        StateSpec(DeviceState.MINING_FULL, model.power_kw, 2 * max(up, step) + SETTLE_MARGIN_S, up, step, hashes),
    )  # fmt: skip


def gpu_states(model: DeviceModel) -> tuple[StateSpec, ...]:
    """Ladder of a GPU: idle (warm), batch inference."""
    up, down = GPU_TIMING.wake_s, GPU_TIMING.sleep_s
    return (
        StateSpec(DeviceState.IDLE, model.idle_kw, 2 * down + SETTLE_MARGIN_S, down, down),
        StateSpec(DeviceState.INFERENCE_BATCH, model.power_kw, 2 * up + SETTLE_MARGIN_S, up, down),
    )


def states_of(model: DeviceModel, firmware: str) -> tuple[StateSpec, ...]:
    """The shipped ladder of a model with a firmware, rising in power."""
    return gpu_states(model) if model.type is ResourceType.GPU else asic_states(model, firmware)


@dataclass(frozen=True, slots=True)
class ResolvedGroup:
    """A group's ladder and specifications after the model table and the file's overrides."""

    ladder: tuple[StateSpec, ...]
    specifications: dict[str, object] = field(default_factory=dict)
