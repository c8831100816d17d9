"""What a GPU node tells and answers, in domain units: fractions 0–1, bytes, watts, °C. Frozen values; no I/O, no parsing."""

from dataclasses import dataclass, field
from enum import StrEnum

from hcp_pipelines.devices.xid import Xid, xid_of
from hcp_pipelines.domain.errors import DeviceRefusedError
from hcp_pipelines.domain.modes import DeviceState

MIB = 1_048_576
GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class GpuSpecification:
    """What a GPU is made of: the one typed specification of RS-05 and ER-08."""

    model: str
    memory_gb: float  # GiB, as the trade says it: an 80 GB board has 79.6
    compute_capability: str
    max_power_w: float
    min_power_cap_w: float

    def as_dict(self) -> dict[str, object]:
        """The keys that the inventory's `specifications` column has for a GPU."""
        return {
            "memory_gb": self.memory_gb,
            "compute_capability": self.compute_capability,
            "max_power_w": self.max_power_w,
        }


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Which node it is: discovery tells moved and swapped boards by their uuids, in the order of their indices."""

    hostname: str
    driver_version: str
    api_version: str
    gpu_uuids: tuple[str, ...]
    specification: GpuSpecification
    is_drained: bool
    states: frozenset[DeviceState]


@dataclass(frozen=True, slots=True)
class GpuTelemetry:
    """One GPU as the exporter last collected it. None: the exporter has no value for it."""

    index: int
    uuid: str
    model: str
    hostname: str
    power_w: float | None = None
    energy_j: float | None = None
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    utilization_fraction: float | None = None
    engine_active_fraction: float | None = None
    tensor_active_fraction: float | None = None
    dram_active_fraction: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    sm_clock_mhz: float | None = None
    remapped_rows: int | None = None
    has_remap_failed: bool | None = None
    last_xid: int | None = None  # the last one only: the same code twice can't be seen here
    problems: tuple[str, ...] = ()  # values that can't be; they are None here

    @property
    def xid(self) -> Xid:
        """What the last XID means and what to do about it; code 0 where there is none."""
        return xid_of(self.last_xid or 0)


@dataclass(frozen=True, slots=True)
class NodeTelemetry:
    """All GPUs that the exporter shows; one that it does not show is lost."""

    gpus: tuple[GpuTelemetry, ...]

    def missing(self, expected: int) -> tuple[int, ...]:
        """Indices below `expected` that have no series: a lost GPU's vanish."""
        seen = {gpu.index for gpu in self.gpus}
        return tuple(index for index in range(expected) if index not in seen)


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """One GPU as the agent shows it now. `state` is None where the GPU is lost."""

    index: int
    uuid: str
    health: str
    state: DeviceState | None
    power_w: float | None
    power_cap_w: float | None
    operation_id: str | None
    workload_id: str | None
    workload_class: str | None
    workload_phase: str | None
    workload_gpus: tuple[int, ...] = ()
    model: str = ""
    work: str = ""  # the owner's id of the workload, where it has one
    weights_gib: float = 0.0  # 0: the agent does not tell
    load: str = ""
    checkpoint: str = ""
    saved: str = ""  # the newest checkpoint that it has written itself
    is_drained: bool | None = None  # its node takes no new work; None: the agent does not tell it here


@dataclass(frozen=True, slots=True)
class Operation:
    """A write that the agent accepted."""

    operation_id: str
    kind: str
    gpus: tuple[int, ...]
    state: str  # running, succeeded, failed
    problem: str = ""
    took_s: float = 0.0  # from its beginning to its end, by the agent's clock; 0 until then
    is_works_own: bool = False  # it has failed for the sake of the work that it was to load

    @property
    def is_running(self) -> bool:
        """Whether it has not come to its end."""
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What to load where a GPU is to serve or train; `gpus_each`: over how many GPUs one copy goes."""

    model: str = "unnamed"
    weights_gib: float = 16.0
    load: str = "cold"
    gpus_each: int = GPUS_PER_NODE
    workload_id: str = ""  # the owner's; empty: nobody's in particular
    checkpoint: str = ""  # where it goes on from, as its engine names it


@dataclass(frozen=True, slots=True)
class StateOutcome:
    """What became of a wanted state, GPU by GPU; the four add up to what was asked for.

    `accepted` names the operation that is under way (empty: it was so already), `busy` GPUs can be asked again later, `refused`
    ones will not for the reason given, and in `at_work` something else runs, which is to be switched in phases (`switching`).
    """

    accepted: dict[int, str] = field(default_factory=dict)
    busy: dict[int, str] = field(default_factory=dict)
    refused: dict[int, DeviceRefusedError] = field(default_factory=dict)
    let_go: dict[int, str] = field(default_factory=dict)  # of those accepted, whose work is put to sleep
    at_work: dict[int, GpuStatus] = field(default_factory=dict)


class Verdict(StrEnum):
    """What a read-back of mode *and* power says of one GPU."""

    ARRIVED = "arrived"
    ON_THE_WAY = "on_the_way"  # an operation is still at work
    WRONG_MODE = "wrong_mode"
    WRONG_POWER = "wrong_power"  # it says the mode, and does not draw like it: a false ack after the settling deadline
    NO_POWER_YET = "no_power_yet"  # the exporter has no value
    LOST = "lost"
