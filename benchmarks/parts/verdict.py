"""Whether a switch was lost or done twice: the journal, the gateways' logs and the devices' own log, held against each other.

Needs no running process but Postgres. It judges by what each of them wrote down and shares no code with those who plan,
command or carry out. A command under way counts as nothing: look again, or when everything has stopped.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from hcp_pipelines.edge.log_files import read_log
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire import edge_v1_pb2 as pb

UNANSWERED_SQL = """
    select count(*) from switch_journal c where c.event = 'commanded' and not exists (
        select from switch_journal o where o.command_id = c.command_id and o.assignment = c.assignment
        and o.event in ('acked', 'expired'))"""
_UNKNOWN = 255
_JOURNAL = """
    select c.facility_id, c.command_id, c.assignment, c.devices, a.devices, a.event
    from switch_journal c
    left join switch_journal a on a.command_id = c.command_id and a.assignment = c.assignment and a.event in ('acked', 'expired')
    where c.event = 'commanded'"""

Key = tuple[UUID, int]  # command and assignment
States = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """Counts of devices, but for `commands`, which are assignments.

    `lost`: acknowledged for good and not carried out, or acknowledged and not in the gateway's log. `doubled`: changed more
    than once by one assignment. `unanswered`: journalled without an ack and not closed as never sent. `unjournalled`: in a
    gateway's log without having been journalled before.
    """

    commands: int = 0
    acked: int = 0
    lost: int = 0
    doubled: int = 0
    unanswered: int = 0
    unjournalled: int = 0


@dataclass
class Journal:
    """What one facility's owners wrote: assignments commanded, devices acknowledged, devices without an answer."""

    commanded: set[Key] = field(default_factory=set)
    acked: dict[Key, int] = field(default_factory=dict)
    unanswered: int = 0


@dataclass
class _Site:
    """What one facility's gateway accepted, in its order, against what the devices did."""

    wanted: States
    reached: States
    is_final: npt.NDArray[np.bool_]
    known: set[Key] = field(default_factory=set)
    unjournalled: int = 0
    changed: dict[Key, BitMap] = field(default_factory=dict)
    doubled: int = 0


def judge(settings: Settings) -> Verdict:
    """The verdict on everything that this state directory has ever switched."""
    return compare(read_journal(settings), settings.at("edge"), settings.at("world", "transitions.jsonl"))


def compare(journals: dict[str, Journal], edge: Path, transitions: Path) -> Verdict:
    """Journals by facility, against the gateways' logs in `edge` and the devices' own log."""
    folders = sorted(p for p in edge.iterdir() if (p / "log.bin").exists())
    sites = {folder.name: _read_site(folder, journals.get(folder.name, Journal())) for folder in folders}
    _follow_devices(transitions, sites)
    unstored = [
        devices
        for name, journal in journals.items()
        for key, devices in journal.acked.items()
        if devices and (name not in sites or key not in sites[name].known)
    ]
    return Verdict(
        commands=sum(len(j.commanded) for j in journals.values()),
        acked=sum(sum(j.acked.values()) for j in journals.values()),
        lost=sum(_missed(site) for site in sites.values()) + sum(unstored),
        doubled=sum(site.doubled for site in sites.values()),
        unanswered=sum(j.unanswered for j in journals.values()),
        unjournalled=sum(site.unjournalled for site in sites.values()),
    )


def read_journal(settings: Settings) -> dict[str, Journal]:
    """The switch journal, by facility."""
    journals: dict[str, Journal] = {}
    with connect(settings, Role.OPERATOR) as connection:
        for facility_id, command_id, assignment, commanded, devices, event in connection.execute(_JOURNAL):
            journal, key = journals.setdefault(facility_id, Journal()), (command_id, assignment)
            journal.commanded.add(key)
            if event == "acked":
                journal.acked[key] = devices
            elif event is None:
                journal.unanswered += commanded
    return journals


def _read_site(folder: Path, journal: Journal) -> _Site:
    """The gateway's log, replayed: the state each slot was last accepted for, and whether its ack has been journalled."""
    entries = read_log(folder)
    size = _slots_in(entries)
    site = _Site(np.full(size, _UNKNOWN, np.uint8), np.full(size, _UNKNOWN, np.uint8), np.zeros(size, dtype=bool))
    commands: dict[str, pb.Command] = {}
    for entry in entries:
        if entry.kind == "baseline":
            told = np.frombuffer(pb.FacilityState.FromString(entry.payload).states, dtype=np.uint8)
            fresh = site.reached[: len(told)] == _UNKNOWN
            site.reached[: len(told)][fresh] = told[fresh]
        elif entry.kind == "command":
            command = pb.Command.FromString(entry.payload)
            commands[command.command_id] = command
        elif entry.kind == "ack":
            ack = pb.Ack.FromString(entry.payload)
            _accept(site, commands.pop(ack.command_id), ack, journal)
        elif entry.kind == "local":
            event = pb.LocalEvent.FromString(entry.payload)
            _want(site, (UUID(int=event.seq), 0), event.state, event.slots, is_final=True)
    return site


def _slots_in(entries: list[pb.LogEntry]) -> int:
    baselines = [pb.FacilityState.FromString(e.payload) for e in entries if e.kind == "baseline"]
    return max((len(b.states) for b in baselines), default=0)


def _accept(site: _Site, command: pb.Command, ack: pb.Ack, journal: Journal) -> None:
    states = {assignment.index: assignment.state for assignment in command.assignments}
    for answer in ack.assignments:
        key = (UUID(command.command_id), answer.index)
        count = _want(site, key, states[answer.index], answer.accepted, is_final=key in journal.acked)
        site.unjournalled += count if key not in journal.commanded else 0


def _want(site: _Site, key: Key, state: int, payload: bytes, *, is_final: bool) -> int:
    """Note what was accepted; so many devices."""
    site.known.add(key)
    if not payload:
        return 0
    slots = _array(BitMap.deserialize(payload))
    site.wanted[slots], site.is_final[slots] = state, is_final
    return len(slots)


def _follow_devices(path: Path, sites: dict[str, _Site]) -> None:
    """The devices' own log; what a gateway had not yet accepted when its log was read is passed over."""
    for entry in _transitions(path):
        site, key = sites.get(entry["site"]), (UUID(entry["ref"]), int(entry["assignment"]))
        if site is None or key not in site.known:
            continue
        changed = BitMap.deserialize(base64.b64decode(entry["slots"]))
        before = site.changed.setdefault(key, BitMap())
        site.doubled += before.intersection_cardinality(changed)
        before |= changed
        site.reached[_array(changed)] = int(entry["state"])


def _transitions(path: Path) -> Iterator[dict[str, str]]:
    """Whole lines only; logs set aside under a number come first."""
    aside = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda p: int(p.suffix[1:]))
    for each in [*aside, path]:
        if not each.exists():
            continue
        with each.open("rb") as lines:
            yield from (json.loads(line) for line in lines if line.endswith(b"\n"))


def _missed(site: _Site) -> int:
    return int((site.is_final & (site.wanted != site.reached)).sum())


def _array(bitmap: BitMap) -> npt.NDArray[np.uint32]:
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32)
