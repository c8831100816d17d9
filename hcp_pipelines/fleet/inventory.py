"""What a facility consists of at its current inventory generation: groups with slots and ladders, limits, fallback plan.

Read from Postgres by whoever plans, commands or exports. The SQL and the pure `inventories_from_rows` are apart, so that a
daemon can run the three queries on its own (asynchronous) connection. Writing is in `apply.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ControlMode, DeviceState, DispatchRegime, ResourceType
from hcp_pipelines.fleet.document import FacilityFile, Staleness

# Parameters of all three: (ids, ids), where ids is a list of facility ids or None for all.
FACILITIES_SQL = """
    select f.id, f.document, f.document_version, f.control_mode, f.dispatch_regime, f.obligations_version, f.status, g.generation
    from facilities f join inventory_generations g on g.facility_id = f.id and g.is_current
    where %s::text[] is null or f.id = any(%s::text[]) order by f.id"""
GROUPS_SQL = """
    select d.facility_id, d.group_id, d.feeder_id, d.type, d.model, d.firmware, d.cooling_class, d.first_slot, d.devices,
           d.ladder, d.specifications
    from device_groups d
    join inventory_generations g on g.facility_id = d.facility_id and g.generation = d.generation and g.is_current
    where %s::text[] is null or d.facility_id = any(%s::text[]) order by d.facility_id, d.first_slot"""
_GROUPS_OF_SQL = """
    select facility_id, group_id, feeder_id, type, model, firmware, cooling_class, first_slot, devices, ladder, specifications
    from device_groups where facility_id = %s and generation = %s order by first_slot"""
RAMPS_SQL = """
    select scope, scope_id, facility_id, up_mw, down_mw, window_s from ramp_budgets
    where facility_id is null or %s::text[] is null or facility_id = any(%s::text[]) order by scope, scope_id"""

Row = Sequence[Any]


class InventoryRows(NamedTuple):
    """The rows of the three queries."""

    facilities: Sequence[Row]
    groups: Sequence[Row]
    ramps: Sequence[Row]


@dataclass(frozen=True, slots=True)
class LadderState:
    """One state of a group's ladder; `power_kw` is IT power, without PUE."""

    state: DeviceState
    power_kw: float
    settle_s: float


@dataclass(frozen=True, slots=True)
class GroupInventory:
    """A group: slots `first_slot … first_slot + devices − 1` of the facility, a ladder rising in power."""

    group_id: str
    feeder_id: str
    type: ResourceType
    model: str
    firmware: str
    cooling_class: str
    first_slot: int
    devices: int
    ladder: tuple[LadderState, ...]
    specifications: Mapping[str, Any]

    @property
    def lowest(self) -> DeviceState:
        """The state of least power."""
        return self.ladder[0].state

    def power_kw_by_state(self) -> dict[DeviceState, float]:
        """IT kW of one device in each state of the ladder."""
        return {step.state: step.power_kw for step in self.ladder}

    def fall_s(self, step: LadderState) -> float:
        """Seconds that a device usually takes to a state from above it; its deadline where only that is known."""
        usual_s: float = self.specifications.get("ramp_s", {}).get(step.state.label, {}).get("down", step.settle_s)
        return min(usual_s, step.settle_s)


@dataclass(frozen=True, slots=True)
class RampBudget:
    """MW of change per rolling window at one scope: 'feeder' (its id), 'facility' (its id) or 'portfolio' ('all')."""

    scope: str
    scope_id: str
    up_mw: float
    down_mw: float
    window_s: float


@dataclass(frozen=True, slots=True)
class FacilityInventory:
    """One facility at its current generation. `capacity_mw`, feeder limits and ramps are all-in MW (IT power × PUE)."""

    facility_id: str
    name: str
    generation: int
    document_version: int
    settlement_point: str
    capacity_mw: float
    pue: float
    control_mode: ControlMode
    dispatch_regime: DispatchRegime
    obligations_version: int
    status: str
    feeder_limits_mw: Mapping[str, float]
    groups: tuple[GroupInventory, ...]
    ramps: tuple[RampBudget, ...]
    fallback: Mapping[str, DeviceState]
    document: FacilityFile = field(repr=False)
    staleness: Staleness = field(default_factory=Staleness)  # its own limits for old prices
    scheduled: frozenset[str] = frozenset()  # groups whose devices work for the scheduler alone

    @property
    def devices(self) -> int:
        """Devices of all groups."""
        return sum(g.devices for g in self.groups)

    @property
    def slots(self) -> int:
        """Length of an array indexed by slot; between groups there may be slots without a device."""
        return max((g.first_slot + g.devices for g in self.groups), default=0)

    def all_in_mw(self, group: GroupInventory, state: DeviceState, devices: int) -> float:
        """MW at the meter of so many devices of a group in a state."""
        return group.power_kw_by_state()[state] * devices * self.pue / 1000


def inventories_from_rows(rows: InventoryRows) -> list[FacilityInventory]:
    """Facilities by id, from the rows of `FACILITIES_SQL`, `GROUPS_SQL` and `RAMPS_SQL`."""
    groups: dict[str, list[GroupInventory]] = {}
    for facility_id, *columns in rows.groups:
        groups.setdefault(facility_id, []).append(_group(columns))
    return [_facility(row, tuple(groups.get(row[0], ())), rows.ramps) for row in rows.facilities]


def load_inventories(
    connection: psycopg.Connection, facility_ids: Sequence[str] | None = None
) -> list[FacilityInventory]:
    """All facilities (or those named) that have an inventory, by id, as of one snapshot."""
    ids = None if facility_ids is None else list(facility_ids)
    is_outermost = connection.info.transaction_status == TransactionStatus.IDLE
    with connection.transaction():
        if is_outermost:
            connection.execute("set transaction isolation level repeatable read, read only")
        facilities = connection.execute(FACILITIES_SQL, (ids, ids)).fetchall()
        groups = connection.execute(GROUPS_SQL, (ids, ids)).fetchall()
        ramps = connection.execute(RAMPS_SQL, (ids, ids)).fetchall()
    return inventories_from_rows(InventoryRows(facilities, groups, ramps))


def load_inventory(connection: psycopg.Connection, facility_id: str) -> FacilityInventory:
    """One facility.

    Raises:
        ConfigError: there is none of that id.
    """
    found = load_inventories(connection, [facility_id])
    if not found:
        raise ConfigError(f"no facility {facility_id!r}; `hcp facility list` shows those there are")
    return found[0]


def load_inventory_of(connection: psycopg.Connection, facility_id: str, generation: int | None) -> FacilityInventory:
    """One facility with the devices of an earlier generation (None: the current one); all else as it is now.

    Raises:
        ConfigError: there is none of that id, or it never had that generation.
    """
    inventory = load_inventory(connection, facility_id)
    if generation in (None, inventory.generation):
        return inventory
    rows = connection.execute(_GROUPS_OF_SQL, (facility_id, generation)).fetchall()
    if not rows:
        raise ConfigError(
            f"{facility_id} has no inventory generation {generation}; the current one is {inventory.generation}"
        )
    groups = tuple(_group(columns) for _, *columns in rows)
    return replace(inventory, generation=int(generation or 0), groups=groups)


def _group(columns: Row) -> GroupInventory:
    group_id, feeder_id, kind, model, firmware, cooling_class, first_slot, devices, ladder, specifications = columns
    steps = tuple(LadderState(DeviceState(s["state"]), s["power_kw"], s["settle_s"]) for s in ladder)
    return GroupInventory(
        group_id,
        feeder_id,
        ResourceType(kind),
        model,
        firmware,
        cooling_class,
        first_slot,
        devices,
        steps,
        specifications,
    )


def _facility(row: Row, groups: tuple[GroupInventory, ...], ramp_rows: Sequence[Row]) -> FacilityInventory:
    facility_id, raw, version, control_mode, regime, obligations_version, status, generation = row
    document = FacilityFile.model_validate(raw)
    return FacilityInventory(
        facility_id=facility_id,
        name=document.name,
        generation=generation,
        document_version=version,
        settlement_point=document.settlement_point,
        capacity_mw=document.capacity_mw,
        pue=document.pue.value,
        control_mode=ControlMode(control_mode),
        dispatch_regime=DispatchRegime(regime),
        obligations_version=obligations_version,
        status=status,
        feeder_limits_mw={f.feeder_id: f.limit_mw for f in document.feeders},
        groups=groups,
        ramps=_ramps(facility_id, ramp_rows),
        fallback={g.group_id: document.fallback_state(g) for g in document.groups},
        document=document,
        staleness=document.staleness,
        scheduled=frozenset(g.group_id for g in document.groups if g.scheduled),
    )


def _ramps(facility_id: str, rows: Sequence[Row]) -> tuple[RampBudget, ...]:
    """Scope ids in the table are unique over the portfolio ('hou-1/feeder-1'); here a feeder has its own id."""
    return tuple(
        RampBudget(scope, scope_id.removeprefix(f"{facility_id}/"), up_mw, down_mw, window_s)
        for scope, scope_id, owner, up_mw, down_mw, window_s in rows
        if owner in (facility_id, None)
    )
