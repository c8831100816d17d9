"""The policy: how a facility's mode mix responds to live indices. The contract between Dagster and the allocator.

Stored as JSON in `policies.body`. Pure data and its own consistency; evaluation is in `evaluate.py`.
Reading it: each group has a *ladder* of states in rising power; each *block* is one step of one group's ladder
for so many devices. A step is switched on when the decision price falls below its `on` strike, off when it rises
above its `off` strike, and left alone between (DESIGN §6).
"""

import hashlib
import json
from datetime import datetime
from itertools import pairwise
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from hcp_pipelines.domain.modes import DeviceState

SCHEMA_VERSION: Literal[1] = 1


MOST = 1e15  # of any number in a policy: beyond it arithmetic ends in infinities, and an id in no table


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_within_reach(self) -> Self:
        for name, value in self:
            numbers = value.values() if isinstance(value, dict) else (value,)
            if any(isinstance(number, int | float) and abs(number) > MOST for number in numbers):
                raise ValueError(f"{name} is beyond {MOST:g}")
        return self


class Affine(_Frozen):
    """slope · index + offset, in $/MWh (strikes) or $/h (values)."""

    slope: float = 0.0
    offset: float = 0.0

    def at(self, index: float) -> float:
        """The value at an index value."""
        return self.slope * index + self.offset


class LadderStep(_Frozen):
    """One state a group's devices can be in. `power_kw` is all-in per device (IT power times PUE)."""

    state: DeviceState
    power_kw: float = Field(ge=0)
    index: str = Field(default="none", description="'hashprice', 'gpu.H100', … or 'none'.")
    revenue_usd_per_device_hour: Affine = Affine()


class PolicyGroup(_Frozen):
    """A device group as the policy saw it; the ladder is in rising power, its first step is the lowest state."""

    group_id: str
    feeder_id: str
    devices: int = Field(ge=0)
    ladder: tuple[LadderStep, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for low, high in pairwise(self.ladder):
            if high.power_kw < low.power_kw:
                raise ValueError(
                    f"group {self.group_id}: {high.state.label} draws {high.power_kw} kW, less than {low.power_kw} kW of "
                    f"{low.state.label} below it; a ladder is in rising power"
                )
        return self


class BlockWork(_Frozen):
    """Work of the queue behind a block: what it pays in $/MWh of the block's power, in its index, and whose it is in words.

    `workload_type` is empty where room is kept for work to come.
    """

    worth: Affine
    workload_type: str = ""
    words: str = ""


class Block(_Frozen):
    """One ladder step of one group for `devices` devices, with its two strikes in $/MWh of all-in power.

    `order` is the merit order within the facility at the anchor. When a cap or a floor binds, the live strikes decide who
    is shed or switched on first; `order` breaks their ties, lowest first on.
    """

    group_id: str
    from_state: DeviceState
    to_state: DeviceState
    devices: int = Field(gt=0)
    mw: float = Field(gt=0)
    order: int = Field(ge=0)
    index: str = "none"
    off: Affine
    on: Affine
    wake_cost_usd_per_mw: float = Field(default=0.0, ge=0, description="The guard's account c: cost of one wake.")
    work: BlockWork | None = Field(
        default=None,
        description="Of a scheduled group: its devices are as many as the work asks for, and bound the scheduler.",
    )


class Adder(_Frozen):
    """$/MWh added to the decision price in [start, end): coincident peaks, programmes."""

    start: AwareDatetime
    end: AwareDatetime
    usd_per_mwh: float


class RampLimit(_Frozen):
    """MW per rolling window, up and down apart, at one scope ('facility', or a feeder id)."""

    scope: str
    up_mw: float = Field(gt=0)
    down_mw: float = Field(gt=0)
    window_s: float = Field(gt=0)


class Couplings(_Frozen):
    """What ties the blocks of a facility together."""

    cap_mw: float = Field(gt=0, description="All-in facility limit.")
    floor_mw: float = Field(default=0.0, ge=0, description="Armed obligations: load that must stay on.")
    sheddable: tuple[str, ...] = Field(default=(), description="Groups that count towards the floor; empty is all.")
    feeder_caps_mw: dict[str, float] = Field(default_factory=dict)
    ramps: tuple[RampLimit, ...] = ()
    min_up_s: float = Field(default=0.0, ge=0)
    min_down_s: float = Field(default=0.0, ge=0)
    starts_per_hour: int | None = Field(
        default=None, ge=1, description="Of one device, for the price alone; null: no limit."
    )


class RestOfInterval(_Frozen):
    """Expected remaining 5-minute LMPs of the settlement interval: slope · last LMP + offset."""

    slope: float = 1.0
    offset: float = 0.0


class ResolveBounds(_Frozen):
    """Relative moves of an index beyond which the policy asks for a re-solve (DESIGN §6 c, e)."""

    relative: dict[str, float] = Field(default_factory=dict)


class Anchor(_Frozen):
    """The state and indices the policy was solved at."""

    decision_price_usd_per_mwh: float
    indices: dict[str, float]
    devices_by_state: dict[str, dict[str, int]] = Field(description="group → state label → devices.")
    target_by_state: dict[str, dict[str, int]] = Field(description="What it asks for at the anchor.")


class Unplaced(_Frozen):
    """Waiting work of the whole queue that has no place in a scheduled group.

    `no_group`: none could ever run it. `no_gpus`: all such GPUs are taken, by work that pays `than_usd_per_gpu_hour` or more.
    `rate`: its limit is below that, the lowest rate at which such work is sold.
    """

    workload_type: str
    gpu_type: str
    jobs: int = Field(gt=0)
    gpus: int = Field(gt=0)
    usd_per_gpu_hour: float
    why: Literal["no_group", "no_gpus", "rate"]
    than_usd_per_gpu_hour: float | None = None


class PlanEntry(_Frozen):
    """A scheduled piece of training; empty until there is a queue."""

    group_id: str
    start: AwareDatetime
    end: AwareDatetime
    devices: int = Field(ge=0)
    job: str


class StrikesFrom(_Frozen):
    """What made the strikes: a model's name and version with its digest, or none and the reason why the plain band stands."""

    model: str = ""
    digest: str = ""
    reason: str = ""
    is_model_unfit: bool = Field(default=False, description="A model is there and can't be used.")

    @property
    def words(self) -> str:
        """In a line, for people."""
        return f"model {self.model} ({self.digest[:12]})" if self.model else f"the plain band, as {self.reason}"


class WorkExpected(_Frozen):
    """By whose word room is kept for work to come: a forecast's, or that of the fixed share alone and the reason why."""

    model: str = Field(default="", description="Name and version of the forecast.")
    quantile: str = Field(default="", description="Which of its quantiles, as q90.")
    asked_at: AwareDatetime | None = None
    gpus: int = Field(default=0, ge=0, description="Kept free at this facility for what it says.")
    reason: str = ""

    @property
    def words(self) -> str:
        """In a line, for people."""
        if not self.model or self.asked_at is None:
            return f"the fixed share alone, as {self.reason}"
        said = f"{self.model} ({self.quantile}, asked {self.asked_at:%Y-%m-%d %H:%M}Z)"
        return f"{self.gpus} GPUs by {said}, the fixed share at least"


class Policy(_Frozen):
    """One facility's policy with its admission fields (DESIGN §6)."""

    schema_version: Literal[1] = SCHEMA_VERSION
    facility_id: str
    settlement_point: str
    basis_tick_id: int
    solved_at: AwareDatetime
    refresh_due_at: AwareDatetime
    expires_at: AwareDatetime
    input_age_s: dict[str, float] = Field(description="Age of the newest value of each stream at solve time.")
    inventory_generation: int
    obligations_version: int = 0
    run_id: str | None = None
    groups: tuple[PolicyGroup, ...]
    blocks: tuple[Block, ...]
    adders: tuple[Adder, ...] = ()
    rest_of_interval: RestOfInterval = RestOfInterval()
    couplings: Couplings
    plan: tuple[PlanEntry, ...] = ()
    resolve: ResolveBounds = ResolveBounds()
    anchor: Anchor
    strikes_from: StrikesFrom | None = None  # policies from before there were models don't say
    unplaced: tuple[Unplaced, ...] = ()
    expected: WorkExpected | None = None  # of facilities whose groups work for the queue

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        ladders = {g.group_id: [s.state for s in g.ladder] for g in self.groups}
        for block in self.blocks:
            ladder = ladders.get(block.group_id)
            if ladder is None:
                raise ValueError(f"block of group {block.group_id!r}, which the policy does not list")
            if block.from_state not in ladder or block.to_state not in ladder:
                raise ValueError(
                    f"block {block.group_id} {block.from_state.label}→{block.to_state.label} off its ladder"
                )
            if ladder.index(block.to_state) != ladder.index(block.from_state) + 1:
                raise ValueError(f"block {block.group_id} {block.from_state.label}→{block.to_state.label} skips a step")
            index = self.anchor.indices.get(block.index, 0.0)
            if block.on.at(index) > block.off.at(index) + 1e-9:
                raise ValueError(
                    f"block {block.group_id} {block.to_state.label}: on-strike {block.on.at(index):.2f} above "
                    f"off-strike {block.off.at(index):.2f} $/MWh; the band must not be negative"
                )
        if self.expires_at <= self.solved_at:
            raise ValueError(f"expires_at {self.expires_at} is not after solved_at {self.solved_at}")
        return self

    def digest(self) -> str:
        """SHA-256 of the canonical JSON (keys sorted: jsonb does not keep their order), without the run that made it.

        What older policies do not say is left out where it is empty, so that they keep theirs.
        """
        document = self.model_dump(mode="json", exclude={"run_id"})
        for name in ("strikes_from", "unplaced", "expected"):
            if not document[name]:
                del document[name]
        for block in document["blocks"]:
            if block["work"] is None:
                del block["work"]
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def is_expired(self, now: datetime) -> bool:
        """Whether the policy may no longer be applied."""
        return now >= self.expires_at
