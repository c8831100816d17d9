"""How long devices take to change: by firmware, model and transition, each row with its source, or marked as a setting.

The one such table: ladders (`fleet.models`), the gateway's deadlines and docs/devices.md come from it. How a deadline is judged
is in `edge.settling`; the gateway adds two sampling periods to each, whether power is pushed or polled.
"""

from dataclasses import dataclass
from enum import StrEnum

from hcp_pipelines.domain.modes import DeviceState

DEADLINE_FACTOR = 2.0  # a device may take twice its usual time … (setting)
SETTLE_MARGIN_S = 30.0  # … and the commands of one wave may leave so far apart (setting)
FALLBACK_FAMILY = "stock"
GPU_FAMILY = "gpu"  # inference of a small model
GPU_LARGE, GPU_TRAINING = "gpu-large", "gpu-training"
LARGE_GIB = 60.0  # of weights: more is a large model (docs/gpu-agent.md)


class Transition(StrEnum):
    """What a device is asked to do."""

    WAKE = "wake"  # asleep → working
    SLEEP = "sleep"  # working → asleep
    STEP = "step"  # one power profile → another


@dataclass(frozen=True, slots=True)
class Timing:
    """One row: usual seconds of a transition. An empty `model` is any model of the firmware."""

    firmware: str
    transition: Transition
    typical_s: float
    source: str
    model: str = ""

    @property
    def deadline_s(self) -> float:
        """After so long, not having arrived is a fault; seconds. A GPU's load and the ramp behind it each fit in once.

        >>> Timing("luxos", Transition.WAKE, 10.0, "").deadline_s
        50.0
        """
        return DEADLINE_FACTOR * self.typical_s + SETTLE_MARGIN_S


_W, _S, _T = Transition.WAKE, Transition.SLEEP, Transition.STEP
_LUXOS = "vendor: about 25 W in < 5 s, full power in < 10 s (docs.luxor.tech, curtail)"
_FAST_BOOT = "fast boot: > 85 % of target power within 10 s (API document of set.miner.fastboot)"
_FIVE_MINUTES = "setting; proxy: aftermarket firmware trusts the hashrate after 5 minutes (docs.hashcore.com)"
_SLOW_REPLY = "as stock, and set_miner_conf answers after about 21 s (asic-rs issue 245)"

TABLE: tuple[Timing, ...] = (
    Timing("luxos", _W, 10.0, _LUXOS),
    Timing("luxos", _S, 5.0, _LUXOS),
    Timing("luxos", _T, 10.0, "setting"),
    Timing("whatsminer", _W, 10.0, _FAST_BOOT),
    Timing("whatsminer", _S, 10.0, "setting"),
    Timing("whatsminer", _T, 30.0, "setting"),
    Timing("whatsminer-v3", _W, 10.0, _FAST_BOOT),
    Timing("whatsminer-v3", _S, 10.0, "setting"),
    Timing("whatsminer-v3", _T, 30.0, "setting"),
    Timing("braiins", _W, 60.0, "setting; SetQuickRamping makes it adjustable"),
    Timing("braiins", _S, 10.0, "setting"),
    Timing("braiins", _T, 30.0, "setting"),
    Timing("stock", _W, 240.0, _FIVE_MINUTES),
    Timing("stock", _S, 20.0, "setting"),
    Timing("stock", _T, 60.0, "setting"),
    Timing("stock@2022-12", _W, 261.0, _SLOW_REPLY),
    Timing("stock@2022-12", _S, 41.0, _SLOW_REPLY),
    Timing("stock@2022-12", _T, 81.0, _SLOW_REPLY),
    Timing(GPU_FAMILY, _W, 60.0, "cold reload of a small model 38 to 58 s (vLLM blog, sleep mode, 2025-10-26)"),
    Timing(GPU_FAMILY, _S, 10.0, "setting"),
    Timing(GPU_FAMILY, _T, 60.0, "as wake: another use loads its own model"),
    Timing(
        GPU_LARGE,
        _W,
        120.0,
        "cold load of a 70B model more than 90 s (fridayswithfaraday.com); the upper end a setting",
    ),
    Timing(GPU_LARGE, _S, 10.0, "setting"),
    Timing(GPU_LARGE, _T, 120.0, "as wake"),
    Timing(GPU_TRAINING, _W, 180.0, "setting: a restart from the job's own checkpoint takes 60 to 180 s"),
    Timing(GPU_TRAINING, _S, 90.0, "setting: a checkpoint of the job's own takes 20 to 90 s"),
    Timing(GPU_TRAINING, _T, 180.0, "as wake"),
)
_ROWS = {(row.firmware, row.model, row.transition): row for row in TABLE}


def family(firmware: str) -> str:
    """The firmware's name without its version.

    >>> family("stock@2022-12"), family("luxos")
    ('stock', 'luxos')
    """
    return firmware.split("@", 1)[0]


def timing(firmware: str, transition: Transition, model: str = "") -> Timing:
    """The row that fits best: version before family, this model before any; an unknown firmware is as slow as stock.

    >>> timing("whatsminer@2.0.4", Transition.SLEEP, "M60S").typical_s
    10.0
    >>> timing("nobody-knows", Transition.WAKE).firmware
    'stock'
    """
    for name in (firmware, family(firmware), FALLBACK_FAMILY):
        for one in (model, ""):
            row = _ROWS.get((name, one, transition))
            if row is not None:
                return row
    raise KeyError(transition)  # not reached: a test holds that stock has every transition


def families() -> set[str]:
    """Every miners' firmware of the table, versions left out."""
    return {family(row.firmware) for row in TABLE} - {GPU_FAMILY, GPU_LARGE, GPU_TRAINING}


def gpu_family(state: DeviceState, weights_gib: float | None = None) -> str:
    """Whose rows hold for what a GPU does in a state: training, or inference of a small or a large model.

    >>> gpu_family(DeviceState.INFERENCE_BATCH, 140.0), gpu_family(DeviceState.IDLE), gpu_family(DeviceState.TRAINING)
    ('gpu-large', 'gpu', 'gpu-training')
    """
    if state is DeviceState.TRAINING:
        return GPU_TRAINING
    return GPU_LARGE if weights_gib is not None and weights_gib > LARGE_GIB else GPU_FAMILY


def markdown() -> str:
    """The table as docs/devices.md shows it."""
    head = "| firmware | model | transition | usually | deadline | source |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {r.firmware} | {r.model or 'any'} | {r.transition} | {r.typical_s:g} s | {r.deadline_s:g} s | {r.source} |\n"
        for r in TABLE
    )
