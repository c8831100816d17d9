"""One table of limits per GPU model, and what is wrong with a GPU by it: used by everything that judges one (ER-49).

Full memory is no fault: serving a language model fills it on purpose (ER-48). What counts is XIDs, remapped rows, heat and
throttling. When an issue becomes an alert or a remedy is decided elsewhere (`fleet`).
Sources: temperatures of RS-11, RS-12, MT-32 and MT-33, where 75 and 80 °C were two warnings: 80 is kept, since an H100 SXM5 at
its limit runs at 70–78 °C; slowdown at 87 °C and 700 W as NVIDIA's H100 data sheets; shares of power marked *setting*.
"""

from dataclasses import dataclass

from hcp_pipelines.devices.gpu_node.values import GpuTelemetry
from hcp_pipelines.devices.issues import DeviceIssue
from hcp_pipelines.domain.modes import DeviceState


@dataclass(frozen=True, slots=True)
class GpuLimits:
    """Limits of one model, by the name that its driver gives it; `name` is the model table's."""

    model: str
    name: str
    max_power_w: float
    warning_celsius: float = 80.0
    critical_celsius: float = 85.0
    boost_clock_mhz: float = 1980.0
    memory_warning_celsius: float = 95.0


_LIMITS = {
    limits.model: limits
    for limits in (
        GpuLimits("NVIDIA H100 80GB HBM3", "H100 SXM5", 700.0),
        GpuLimits("NVIDIA H100 PCIe", "H100 PCIe", 350.0, boost_clock_mhz=1755.0),
        GpuLimits("NVIDIA H200", "H200", 700.0),
        GpuLimits("NVIDIA A100-SXM4-80GB", "A100 SXM4", 400.0, boost_clock_mhz=1410.0),
        GpuLimits("NVIDIA B200", "B200", 1000.0, boost_clock_mhz=1965.0),
    )
}
_DEFAULT = GpuLimits("", "", 700.0)
_BUSY_FRACTION = 0.5  # of time: below it a low clock is no throttling (setting)
_THROTTLED_FRACTION = 0.9  # of the boost clock (setting)
MOST_OF_LIMIT = 1.3  # of the board's limit (setting; SM-03: 0.80 to 0.98 at work): some are sold with a higher one
_NO_BOARD_W = 5000.0  # no board of any model draws as much
_AT_LIMIT_FRACTION = 0.85  # of its limit: a board that draws as much is slow because of it, which is normal (setting)
# Share of the board's limit that a resting GPU stays below, and of its cap that batch work and serving exceed (settings).
# An idle H100 draws about 70 W, one that serves nobody with its model loaded 115 W.
_REST_BELOW, _WORK_ABOVE, _SERVE_ABOVE = 0.40, 0.40, 0.12


def limits_of(model: str) -> GpuLimits:
    """The limits of a model; those of an H100 where it is unknown."""
    return _LIMITS.get(model, _DEFAULT)


def table_model(model: str) -> str:
    """A GPU's model as the model table names it; without its maker where the table does not have it.

    >>> table_model("NVIDIA H100 80GB HBM3"), table_model("NVIDIA L40S")
    ('H100 SXM5', 'L40S')
    """
    return limits_of(model).name or model.removeprefix("NVIDIA ")


def plausible_power_w(model: str) -> float:
    """The most that a board of a model can have measured, watts: what tells more is no evidence.

    >>> plausible_power_w("NVIDIA H100 80GB HBM3"), plausible_power_w("something new")
    (910.0, 5000.0)
    """
    return MOST_OF_LIMIT * _LIMITS[model].max_power_w if model in _LIMITS else _NO_BOARD_W


def draws_like(state: DeviceState, power_w: float, cap_w: float | None, model: str = "") -> bool:
    """Whether a board's power fits a state.

    >>> draws_like(DeviceState.IDLE, 105.0, 700.0), draws_like(DeviceState.TRAINING, 105.0, 700.0)
    (True, False)
    """
    full_w = limits_of(model).max_power_w
    if state in (DeviceState.IDLE, DeviceState.CURTAILED):
        return power_w < _REST_BELOW * full_w
    share = power_w / min(cap_w or full_w, full_w)
    return share > (_SERVE_ABOVE if state is DeviceState.INFERENCE_REALTIME else _WORK_ABOVE)


def issues_of(gpu: GpuTelemetry, cap_w: float | None = None) -> tuple[DeviceIssue, ...]:
    """What is wrong with a GPU, worst first. `cap_w`: where its power is capped."""
    limits = limits_of(gpu.model)
    found = [
        *_heat(gpu, limits),
        *_errors(gpu),
        *_throttling(gpu, limits, min(cap_w or limits.max_power_w, limits.max_power_w)),
    ]
    return tuple(sorted(found, key=lambda issue: issue.severity != "critical"))


def _heat(gpu: GpuTelemetry, limits: GpuLimits) -> list[DeviceIssue]:
    found: list[DeviceIssue] = []
    heat = gpu.temperature_celsius
    if heat is not None and heat > limits.critical_celsius:
        found.append(DeviceIssue("critical", "high_temperature", f"{heat:.0f} °C, over {limits.critical_celsius:.0f}"))
    elif heat is not None and heat > limits.warning_celsius:
        found.append(
            DeviceIssue("warning", "elevated_temperature", f"{heat:.0f} °C, over {limits.warning_celsius:.0f}")
        )
    memory = gpu.memory_temperature_celsius
    if memory is not None and memory > limits.memory_warning_celsius:
        message = f"memory at {memory:.0f} °C, over {limits.memory_warning_celsius:.0f}"
        found.append(DeviceIssue("warning", "elevated_memory_temperature", message))
    return found


def _errors(gpu: GpuTelemetry) -> list[DeviceIssue]:
    found: list[DeviceIssue] = []
    if gpu.last_xid:
        severity = "critical" if gpu.xid.takes_gpu_out else "warning"
        found.append(DeviceIssue(severity, "xid", f"XID {gpu.last_xid}: {gpu.xid.meaning}; {gpu.xid.action.value}"))
    if gpu.problems:
        found.append(DeviceIssue("warning", "implausible_reading", "; ".join(gpu.problems)))
    if gpu.has_remap_failed:
        found.append(DeviceIssue("critical", "row_remap_failure", "remapping a memory row failed; reset, then support"))
    return found


def _throttling(gpu: GpuTelemetry, limits: GpuLimits, limit_w: float) -> list[DeviceIssue]:
    """Slow and busy, though not at the limit of its power."""
    clock, busy, power_w = gpu.sm_clock_mhz, gpu.utilization_fraction, gpu.power_w
    if clock is None or busy is None or power_w is None:
        return []
    is_slow = busy >= _BUSY_FRACTION and clock < _THROTTLED_FRACTION * limits.boost_clock_mhz
    if not is_slow or power_w >= _AT_LIMIT_FRACTION * limit_w:
        return []
    return [DeviceIssue("warning", "throttled", f"{clock:.0f} of {limits.boost_clock_mhz:.0f} MHz at {power_w:.0f} W")]
