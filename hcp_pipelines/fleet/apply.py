"""Applying, comparing and exporting facility files: the only writer of facilities, feeders, generations, groups, resources.

One transaction under one advisory lock; applying the same document again changes nothing. Reading is in `inventory.py`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.admission import check
from hcp_pipelines.fleet.document import FacilityFile, Ramp
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.fleet.models import MODELS
from hcp_pipelines.fleet.resources import specification
from hcp_pipelines.fleet.slots import SlotRange, assign_slots

LOCK = "select pg_advisory_xact_lock(hashtextextended('hcp.facility.apply', 0))"
_UPSERT_FACILITY = """
    insert into facilities (id, name, location, capacity_mw, pue, settlement_point, control_mode, dispatch_regime,
                            document_version, document_digest, document)
    values (%(id)s, %(name)s, %(location)s, %(capacity_mw)s, %(pue)s, %(settlement_point)s, %(control_mode)s,
            %(dispatch_regime)s, %(version)s, %(digest)s, %(document)s)
    on conflict (id) do update set name = excluded.name, location = excluded.location, capacity_mw = excluded.capacity_mw,
        pue = excluded.pue, settlement_point = excluded.settlement_point, control_mode = excluded.control_mode,
        dispatch_regime = excluded.dispatch_regime, document_version = excluded.document_version,
        document_digest = excluded.document_digest, document = excluded.document, updated_at = now()"""
_UPSERT_RAMP = """
    insert into ramp_budgets (scope, scope_id, facility_id, up_mw, down_mw, window_s) values (%s, %s, %s, %s, %s, %s)
    on conflict (scope, scope_id) do update
    set up_mw = excluded.up_mw, down_mw = excluded.down_mw, window_s = excluded.window_s"""
_PORTFOLIO_RAMP = """
    insert into ramp_budgets (scope, scope_id, facility_id, up_mw, down_mw, window_s)
    select 'portfolio', 'all', null, min((p ->> 'up_mw')::float8), min((p ->> 'down_mw')::float8),
           max((p ->> 'window_s')::float8)
    from (select document #> '{ramps,portfolio}' as p from facilities where status <> 'retired') documents
    having count(*) > 0
    on conflict (scope, scope_id) do update
    set up_mw = excluded.up_mw, down_mw = excluded.down_mw, window_s = excluded.window_s"""
_PRESENT_GROUPS = """
    select d.group_id, d.first_slot, d.devices from device_groups d
    join inventory_generations g on g.facility_id = d.facility_id and g.generation = d.generation and g.is_current
    where d.facility_id = %s"""
_COPY_RESOURCES = "copy {} (id, facility_id, group_id, slot, generation, type, subtype, specifications) from stdin"
_MERGE_RESOURCES = """
    insert into resources (id, facility_id, group_id, slot, generation, type, subtype, specifications)
    select id, facility_id, group_id, slot, generation, type, subtype, specifications from new_resources
    on conflict (id) do update set group_id = excluded.group_id, generation = excluded.generation, type = excluded.type,
        subtype = excluded.subtype, specifications = excluded.specifications, updated_at = now()"""
_DROP_GONE = """
    delete from resources r where facility_id = %s and generation < %s
    and not exists (select from allocations a where a.resource_id = r.id)"""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What applying did: whether anything changed, the document version, and the inventory generation now current."""

    facility_id: str
    changed: bool
    generation: int
    version: int
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the database has of the facility."""

    version: int
    digest: str
    document: FacilityFile
    generation: int
    inventory_digest: str


def apply(connection: psycopg.Connection, facility: FacilityFile, actor: str) -> ApplyResult:
    """Make the database say what the file says; everything or nothing.

    Raises:
        ConfigError: the file doesn't fit what stands (`admission.check`).
    """
    with connection.transaction():
        connection.execute(LOCK)
        stored = _stored(connection, facility.facility_id)
        digest = _digest(facility.document())
        if stored is not None and stored.digest == digest:
            return ApplyResult(facility.facility_id, False, stored.generation, stored.version)
        check(connection, facility)
        version = stored.version + 1 if stored else 1
        _write_facility(connection, facility, digest, version, actor)
        _write_limits(connection, facility)
        generation = _write_inventory(connection, facility, stored)
        _drop_gone_feeders(connection, facility)
        changes = tuple(_differences(stored.document if stored else None, facility))
        detail = {"version": version, "digest": digest, "generation": generation, "changes": list(changes[:50])}
        connection.execute(
            "insert into audit_log (actor, action, subject, detail) values (%s, 'facility.apply', %s, %s)",
            (actor, facility.facility_id, Jsonb(detail)),
        )
        connection.execute("select pg_notify('hcp_facility', %s)", (facility.facility_id,))
    return ApplyResult(facility.facility_id, True, generation, version, changes)


def diff(connection: psycopg.Connection, facility: FacilityFile) -> list[str]:
    """What applying the file would change, a line each; empty if nothing.

    Raises:
        ConfigError: as `apply`.
    """
    stored = _stored(connection, facility.facility_id)
    if stored is None or stored.digest != _digest(facility.document()):
        check(connection, facility)
    return list(_differences(stored.document if stored else None, facility))


def export(connection: psycopg.Connection, facility_id: str) -> FacilityFile:
    """The facility as a file, equal to the one last applied.

    Raises:
        ConfigError: there is none of that id.
    """
    stored = _stored(connection, facility_id)
    if stored is None:
        raise ConfigError(f"no facility {facility_id!r}; `hcp facility list` shows those there are")
    return stored.document


def _stored(connection: psycopg.Connection, facility_id: str) -> _Stored | None:
    row = connection.execute(
        """select f.document_version, f.document_digest, f.document, coalesce(g.generation, 0), coalesce(g.digest, '')
           from facilities f left join inventory_generations g on g.facility_id = f.id and g.is_current
           where f.id = %s""",
        (facility_id,),
    ).fetchone()
    if row is None:
        return None
    version, digest, document, generation, inventory_digest = row
    return _Stored(version, digest, FacilityFile.model_validate(document), generation, inventory_digest)


def _write_facility(c: psycopg.Connection, facility: FacilityFile, digest: str, version: int, actor: str) -> None:
    document = Jsonb(facility.document())
    values = {
        "id": facility.facility_id,
        "name": facility.name,
        "location": Jsonb(facility.location.model_dump()),
        "capacity_mw": facility.capacity_mw,
        "pue": facility.pue.value,
        "settlement_point": facility.settlement_point,
        "control_mode": facility.control_mode.value,
        "dispatch_regime": facility.dispatch_regime.value,
        "version": version,
        "digest": digest,
        "document": document,
    }
    c.execute(_UPSERT_FACILITY, values)
    c.execute(
        """insert into facility_versions (facility_id, document_version, document_digest, document, applied_by)
           values (%s, %s, %s, %s, %s)""",
        (facility.facility_id, version, digest, document, actor),
    )


def _write_limits(connection: psycopg.Connection, facility: FacilityFile) -> None:
    fid = facility.facility_id
    ramps: list[tuple[str, str, Ramp]] = [("facility", fid, facility.ramps.facility)]
    for feeder in facility.feeders:
        connection.execute(
            """insert into feeders (facility_id, feeder_id, limit_mw) values (%s, %s, %s)
               on conflict (facility_id, feeder_id) do update set limit_mw = excluded.limit_mw""",
            (fid, feeder.feeder_id, feeder.limit_mw),
        )
        ramps.append(("feeder", f"{fid}/{feeder.feeder_id}", feeder.ramp))
    connection.execute("delete from ramp_budgets where facility_id = %s", (fid,))
    for scope, scope_id, ramp in ramps:
        connection.execute(_UPSERT_RAMP, (scope, scope_id, fid, ramp.up_mw, ramp.down_mw, ramp.window_s))
    connection.execute(_PORTFOLIO_RAMP)


def _drop_gone_feeders(connection: psycopg.Connection, facility: FacilityFile) -> None:
    """A feeder that an old generation's groups name stays, as history needs it."""
    connection.execute(
        """delete from feeders f where facility_id = %s and not feeder_id = any(%s) and not exists
           (select from device_groups d where d.facility_id = f.facility_id and d.feeder_id = f.feeder_id)""",
        (facility.facility_id, [f.feeder_id for f in facility.feeders]),
    )


def _write_inventory(connection: psycopg.Connection, facility: FacilityFile, stored: _Stored | None) -> int:
    """A new generation if the groups changed; the current one's number else."""
    inventory = [_inventory_of(facility, g) for g in facility.groups]
    digest = _digest(inventory)
    if stored is not None and stored.inventory_digest == digest:
        return stored.generation
    fid, generation = facility.facility_id, (stored.generation if stored else 0) + 1
    present = {g: SlotRange(first, n) for g, first, n in connection.execute(_PRESENT_GROUPS, (fid,)).fetchall()}
    slots = assign_slots([(g.group_id, g.devices) for g in facility.groups], present)
    connection.execute("update inventory_generations set is_current = false where facility_id = %s", (fid,))
    connection.execute(
        "insert into inventory_generations (facility_id, generation, devices, digest, reason) values (%s, %s, %s, %s, %s)",
        (fid, generation, facility.devices, digest, "groups changed" if stored else "first inventory"),
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            """insert into device_groups (facility_id, generation, group_id, feeder_id, type, model, firmware,
                   cooling_class, first_slot, devices, ladder, specifications)
               values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (fid, generation, g.group_id, g.feeder_id, g.type, g.model, g.firmware, g.cooling_class,
                 slots[g.group_id].first, g.devices, Jsonb(row["ladder"]), Jsonb(row["specifications"]))
                for g, row in zip(facility.groups, inventory, strict=True)
            ],
        )  # fmt: skip
    _write_resources(connection, facility, generation, slots)
    return generation


def _inventory_of(facility: FacilityFile, group: Group) -> dict[str, Any]:
    """What makes a group another one: everything about it but its overrides' wording."""
    resolved = facility.resolved(group)
    ladder = [{"state": int(s.state), "power_kw": s.power_kw, "settle_s": s.settle_s} for s in resolved.ladder]
    named = group.model_dump(mode="json", exclude={"states", "driver", "addresses", "scheduled", "topology"})
    reached: dict[str, Any] = {"addresses": list(group.addresses)} if group.addresses else {}
    if facility.driver_of(group) != "bulk":
        reached["driver"] = facility.driver_of(group)
    return {**named, "ladder": ladder, "specifications": resolved.specifications | reached}


def _write_resources(
    connection: psycopg.Connection, facility: FacilityFile, generation: int, slots: Mapping[str, SlotRange]
) -> None:
    """COPY a row per device: straight into an empty inventory, else by way of a temporary table."""
    fid = facility.facility_id
    is_first = generation == 1
    if not is_first:
        connection.execute("create temporary table new_resources (like resources including defaults) on commit drop")
    with (
        connection.cursor() as cursor,
        cursor.copy(_COPY_RESOURCES.format("resources" if is_first else "new_resources")) as c,
    ):
        for group in facility.groups:
            c.write(_copy_text(fid, group, generation, slots[group.group_id]))
    if not is_first:
        connection.execute(_MERGE_RESOURCES)
        connection.execute(_DROP_GONE, (fid, generation))
        connection.execute("drop table new_resources")


def _copy_text(facility_id: str, group: Group, generation: int, slots: SlotRange) -> str:
    """COPY's text format; ids and models hold no tab, newline or backslash (their patterns and the escape below)."""
    model = group.model.replace("\\", "\\\\").replace("\t", " ").replace("\n", " ")
    specifications = json.dumps(specification(group.type, MODELS.get(group.model), group.resolved()))
    head, tail = f"{facility_id}\t{group.group_id}", f"{generation}\t{group.type}\t{model}\t{specifications}\n"
    return "".join(f"{facility_id}/{slot:06d}\t{head}\t{slot}\t{tail}" for slot in range(slots.first, slots.end))


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _differences(before: FacilityFile | None, after: FacilityFile) -> Iterator[str]:
    """`path: old → new`, groups and feeders named by their ids."""
    if before is None:
        yield f"{after.facility_id}: new facility, {after.devices:,} devices in {len(after.groups)} groups"
        return
    old, new = dict(_flat(before.document())), dict(_flat(after.document()))
    for path in [*new, *(p for p in old if p not in new)]:
        if old.get(path) != new.get(path):
            if path not in old:
                yield f"{path}: added ({new[path]})"
            elif path not in new:
                yield f"{path}: removed (was {old[path]})"
            else:
                yield f"{path}: {old[path]} → {new[path]}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            name = next(
                (item[k] for k in ("group_id", "feeder_id", "state") if isinstance(item, dict) and k in item), n
            )
            yield from _flat(item, f"{path}[{name}]")
    else:
        yield path, value
