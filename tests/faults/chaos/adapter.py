"""What a real platform leaves behind, as the checker's plain records (tests/faults/records.py): Postgres journal, gateway logs,
the devices' own log, leases' owners. Reading only; `at_s` is Unix time, since all of it is one machine's.

`Run.wire` and `changes` stay empty: nobody records them on a real platform. The meter is judged in `judging.py`.
"""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pyroaring import BitMap

from hcp_pipelines.edge.log_files import read_log
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.faults.records import Entry, Facility, Group, Journal, Limit, Run, Set, Slots

FALLBACK_AFTER_S = 3600.0  # simulated; what a gateway's file leaves out (docs/edge-site-file.md)
_JOURNAL = """
    select extract(epoch from recorded_at)::float8, event, facility_id, owner, epoch, command_id::text, assignment, group_id,
           from_state, to_state, slots, devices, reason, mw_delta, refused, deferred, failed, superseded
    from switch_journal order by id"""


def collect(settings: Settings, speed: float, skew_s: float, ends_s: float) -> Run:
    """All that the checker can be told of a platform."""
    with connect(settings, Role.OPERATOR) as connection:
        inventories = load_inventories(connection)
        journal = [_journal(row) for row in connection.execute(_JOURNAL)]
    total_mw = sum(i.capacity_mw for i in inventories)
    run = Run(speed, ends_s, skew_s, [_facility(i, total_mw, settings) for i in inventories], journal)
    for inventory in inventories:
        run.entries += entries_of(settings.at("edge", inventory.facility_id))
    run.sets += sets_of(settings.at("world", "transitions.jsonl"))
    return run


def entries_of(folder: Path) -> list[Entry]:
    """A gateway's log of one facility, oldest first."""
    return [_entry(folder.name, entry) for entry in read_log(folder)]


def sets_of(path: Path) -> Iterator[Set]:
    """The devices' own log: states that changed devices; whole lines only, logs set aside come first."""
    aside = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda p: int(p.suffix[1:]))
    for each in [*aside, path]:
        with each.open("rb") as lines:
            for raw in (json.loads(line) for line in lines if line.endswith(b"\n")):
                if "state" in raw:
                    slots = tuple(BitMap.deserialize(base64.b64decode(raw["slots"])))
                    yield Set(
                        _unix(raw["real_at"]), raw["site"], raw["ref"], raw["assignment"], int(raw["state"]), slots
                    )


def _entry(facility_id: str, entry: pb.LogEntry) -> Entry:
    at_s, seq, kind = _unix(entry.stored_at), entry.seq, entry.kind
    if kind == "epoch":
        announced = pb.Announce.FromString(entry.payload)
        return Entry(at_s, facility_id, seq, kind, epoch=announced.epoch, owner=announced.owner)
    if kind == "command":
        command = pb.Command.FromString(entry.payload)
        parts = tuple((a.index, a.state, _slots(a.slots)) for a in command.assignments)
        return Entry(
            at_s, facility_id, seq, kind, command.command_id, command.epoch, parts=parts, reason=command.reason
        )
    if kind in ("ack", "expired"):
        ack = pb.Ack.FromString(entry.payload)
        parts = tuple((a.index, 0, _slots(a.accepted)) for a in ack.assignments)
        return Entry(at_s, facility_id, seq, kind, ack.command_id, parts=parts, reason=ack.refusal)
    if kind == "settled":
        told = pb.Settled.FromString(entry.payload)
        parts = ((told.index, 0, _slots(told.settled)),)
        return Entry(at_s, facility_id, seq, kind, told.command_id, failed=_slots(told.failed), parts=parts)
    if kind == "local":
        event = pb.LocalEvent.FromString(entry.payload)
        return Entry(at_s, facility_id, seq, kind, state=event.state, slots=_slots(event.slots), reason=event.reason)
    if kind == "locks":
        return Entry(at_s, facility_id, seq, kind, slots=_slots(pb.SetLocks.FromString(entry.payload).slots))
    return Entry(at_s, facility_id, seq, kind)


def _journal(row: tuple) -> Journal:
    at_s, event, facility_id, owner, epoch, command_id, assignment, group_id, before, after, slots, *rest = row
    known = _slots(bytes(slots)) if slots else ()
    return Journal(
        at_s, event, facility_id, owner, epoch, command_id, assignment, group_id, before, after, known, *rest
    )


def _facility(inventory: FacilityInventory, total_mw: float, settings: Settings) -> Facility:
    groups = tuple(
        Group(
            g.group_id, g.feeder_id, tuple(range(g.first_slot, g.first_slot + g.devices)),
            {int(s.state): inventory.all_in_mw(g, s.state, 1) for s in g.ladder},
            {int(s.state): s.settle_s for s in g.ladder}, g.type.value == "ASIC",
        )
        for g in inventory.groups
    )  # fmt: skip
    limits = tuple(
        Limit(
            r.scope_id if r.scope == "feeder" else r.scope, r.up_mw * _share(r.scope, inventory, total_mw),
            r.down_mw * _share(r.scope, inventory, total_mw), r.window_s,
        )
        for r in inventory.ramps
    )  # fmt: skip
    fallback = {g: int(state) for g, state in inventory.fallback.items()}
    stale_s = settings.price_staleness_s
    return Facility(
        inventory.facility_id, groups, limits, fallback, FALLBACK_AFTER_S, stale_s, settings.hold_s, 0.0, 0.0
    )


def _share(scope: str, inventory: FacilityInventory, total_mw: float) -> float:
    return inventory.capacity_mw / total_mw if scope == "portfolio" else 1.0


def _slots(payload: bytes) -> Slots:
    return tuple(BitMap.deserialize(payload)) if payload else ()


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
