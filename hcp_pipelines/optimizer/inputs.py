"""What a solve needs, as frozen values: the site as the optimizer sees it, the newest market values, present states.

Built from Postgres by `load.py`, by the back-test from recorded series. Power here is all-in (IT power × PUE).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.economics.gpu import DEFAULT_UTILIZATION
from hcp_pipelines.economics.mining import HASHPRICE
from hcp_pipelines.policy.schema import Adder, Affine, StrikesFrom, Unplaced, WorkExpected

StepKey = tuple[str, DeviceState]  # a group, and the state that a step of its ladder leads to
RESOLVE_RELATIVE = 0.10  # strikes are affine within ± 10 % of an index (OPTIMIZER §3.5)


class InputsNotReadyError(StorageError):
    """A series that the solve needs has no actionable value yet: try again after the next tick."""


@dataclass(frozen=True, slots=True)
class StateInputs:
    """One state of a group's ladder: all-in kW of one device, and its hashrate if it hashes."""

    state: DeviceState
    power_kw: float
    hash_rate_th_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupInputs:
    """A group: its ladder rises in power; `devices` are those in good health. Of a scheduled one the queue says the worth."""

    group_id: str
    feeder_id: str
    type: ResourceType
    devices: int
    ladder: tuple[StateInputs, ...]
    gpu_type: str = ""
    model: str = ""
    memory_gb: float | None = None
    gpus_per_node: int = 0
    is_scheduled: bool = False

    @property
    def index(self) -> str:
        """Name of the index that its revenue follows."""
        return f"gpu.{self.gpu_type}" if self.type is ResourceType.GPU else HASHPRICE


@dataclass(frozen=True, slots=True)
class RampInputs:
    """MW per rolling window at 'facility' or a feeder."""

    scope: str
    up_mw: float
    down_mw: float
    window_s: float


@dataclass(frozen=True, slots=True)
class SiteInputs:
    """What holds of a facility whatever the prices are."""

    facility_id: str
    settlement_point: str
    generation: int
    obligations_version: int
    capacity_mw: float
    groups: tuple[GroupInputs, ...]
    feeder_caps_mw: Mapping[str, float] = field(default_factory=dict)
    ramps: tuple[RampInputs, ...] = ()
    min_up_s: float = 0.0
    min_down_s: float = 0.0
    starts_per_hour: int | None = None
    adders_usd_per_mwh: float = 0.0
    peak_usd_per_kw_year: float = 0.0  # tariff on load in the coincident peaks; 0: none
    pool_fee_fraction: float = 0.0
    gpu_utilization: float = DEFAULT_UTILIZATION
    gpu_rate_fraction: Mapping[DeviceState, float] = field(default_factory=dict)  # by class of work; 1 where left out
    regions: frozenset[str] = frozenset()  # names of where it is, in small letters

    @property
    def indices(self) -> list[str]:
        """The indices that its groups need, each once."""
        return list(dict.fromkeys(g.index for g in self.groups))


@dataclass(frozen=True, slots=True)
class WorkStep:
    """Work of the queue that is worth about the same, for so many GPUs of one group in one state.

    `worth`, `on` and `off` are $/MWh of the all-in power from rest up to the state, affine in the group's index: what it pays,
    and where it is let in and turned down. `stop_usd_per_mw`: what turning it down costs.
    """

    state: DeviceState
    gpus: int
    worth: Affine
    on: Affine
    off: Affine
    stop_usd_per_mw: float
    usd_per_gpu_hour: float
    workload_type: str  # empty: room for work to come
    words: str


@dataclass(frozen=True, slots=True)
class FacilityInputs:
    """One solve: the site, the values it is solved at, and what the devices do now.

    `present` is group → state → devices; a group left out is taken to be in its lowest state. `worth_wakes` is what being on
    when the interval ends is worth, E[D] in wakes, of steps of which a model says it; the others have the plain band.
    `adders` is what may come on top of the price, by hour. `work`: of scheduled groups, what the queue asks of them.
    """

    site: SiteInputs
    basis_tick_id: int
    solved_at: datetime
    decision_price_usd_per_mwh: float
    indices: Mapping[str, float]
    input_age_s: Mapping[str, float] = field(default_factory=dict)
    present: Mapping[str, Mapping[DeviceState, int]] = field(default_factory=dict)
    floor_mw: float = 0.0
    refresh_after_s: float = 3600.0
    expires_after_s: float = 6 * 3600.0
    run_id: str | None = None
    worth_wakes: Mapping[StepKey, float] = field(default_factory=dict)
    strikes_from: StrikesFrom | None = None
    adders: tuple[Adder, ...] = ()
    work: Mapping[str, tuple[WorkStep, ...]] = field(default_factory=dict)
    unplaced: tuple[Unplaced, ...] = ()
    expected: WorkExpected | None = None
