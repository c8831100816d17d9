"""When a tick asks for a new policy (DESIGN §8): one pure rule, shared by the tick sensor and the tick launcher.

It compares what the policies in force were solved on with what is known now, and so needs no memory of its own:
whoever asks twice gets the same answer. Reading that from Postgres is `state.py`; starting a run is neither's work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

TICK_JOB = "tick_job"
TICK_SENSOR = "tick_sensor"
CONTROL_LOCATION = "control"
KIND_TAG = "hcp/kind"
TICK_ID_TAG = "hcp/tick_id"
REASON_TAG = "hcp/reason"
KIND_TICK = "tick"
RUN_KEY_TAG = "dagster/run_key"
SENSOR_NAME_TAG = "dagster/sensor_name"


class Reason(StrEnum):
    """Why a run is requested; the first that holds is the one recorded."""

    NO_POLICY = "no_policy"
    GRID_SIGNAL = "grid_signal"
    POWER_INTERVAL = "power_interval"
    INDEX_MOVED = "index_moved"
    REFRESH_DUE = "refresh_due"


@dataclass(frozen=True, slots=True)
class FacilityState:
    """One facility: what its policy in force was solved on, beside what is known now. Ids are tick ids."""

    facility_id: str
    newest_power_tick_id: int
    newest_signal_at: datetime | None = None
    policy_basis_tick_id: int | None = None
    policy_published_at: datetime | None = None
    refresh_due_at: datetime | None = None
    anchor_indices: Mapping[str, float] = field(default_factory=dict)
    indices: Mapping[str, float] = field(default_factory=dict)
    relative_bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SolveState:
    """Everything the rule looks at. `now` is simulated."""

    now: datetime
    newest_tick_id: int
    facilities: Sequence[FacilityState]


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """One run of `tick_job`: on the newest tick, whatever number of ticks asked for it."""

    tick_id: int
    reason: Reason
    facility_id: str

    @property
    def run_key(self) -> str:
        """`tick-<id>`: at most one run is ever made for it."""
        return f"tick-{self.tick_id}"

    def tags(self) -> dict[str, str]:
        """Tags that say what the run is; the sensor's own are added by Dagster or by the launcher."""
        return {KIND_TAG: KIND_TICK, TICK_ID_TAG: str(self.tick_id), REASON_TAG: self.reason.value}

    def tags_as_sensor(self) -> dict[str, str]:
        """The tags of the same run had the sensor requested it, so that the sensor skips it."""
        return self.tags() | {RUN_KEY_TAG: self.run_key, SENSOR_NAME_TAG: TICK_SENSOR}


def solve_request(state: SolveState, last_requested_tick_id: int) -> SolveRequest | None:
    """The run to request now, or None: nothing asks for one, or the newest tick has already been requested.

    >>> from datetime import UTC
    >>> quiet = FacilityState("hou-1", newest_power_tick_id=7, policy_basis_tick_id=9)
    >>> at = datetime(2025, 1, 1, tzinfo=UTC)
    >>> solve_request(SolveState(at, 12, [quiet]), 9) is None
    True
    >>> solve_request(SolveState(at, 12, [FacilityState("hou-1", 12, policy_basis_tick_id=9)]), 9).run_key
    'tick-12'
    """
    if state.newest_tick_id <= last_requested_tick_id:
        return None
    for facility in state.facilities:
        reason = reason_to_solve(facility, state.now)
        if reason is not None:
            return SolveRequest(state.newest_tick_id, reason, facility.facility_id)
    return None


def reason_to_solve(facility: FacilityState, now: datetime) -> Reason | None:
    """Why this facility needs a new policy, or None. A bitcoin tick inside the policy's bounds is no reason."""
    basis = facility.policy_basis_tick_id
    if basis is None:
        return Reason.NO_POLICY if facility.newest_power_tick_id > 0 else None
    if _is_newer(facility.newest_signal_at, facility.policy_published_at):
        return Reason.GRID_SIGNAL
    if facility.newest_power_tick_id > basis:
        return Reason.POWER_INTERVAL
    if moved_index(facility) is not None:
        return Reason.INDEX_MOVED
    if facility.refresh_due_at is not None and facility.refresh_due_at <= now:
        return Reason.REFRESH_DUE
    return None


def moved_index(facility: FacilityState) -> str | None:
    """The first index that left the bounds its policy states, or None."""
    for name, bound in facility.relative_bounds.items():
        anchor, present = facility.anchor_indices.get(name), facility.indices.get(name)
        if anchor is None or present is None:
            continue
        if abs(present - anchor) > bound * abs(anchor):
            return name
    return None


def _is_newer(instant: datetime | None, than: datetime | None) -> bool:
    return instant is not None and (than is None or instant > than)
