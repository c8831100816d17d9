"""What a scan found against the inventory: vanished, moved, swapped, new, another model. Pure; writing is in `discovery`.

Here miners, an address each; GPU nodes, whose boards share one, are in `reconcile_nodes`.

A device is known by its MAC, else by its serial number, else by its address. It keeps its slot wherever it moves, unless its old
address still takes connections: then one of the two lies, and nothing moves. Only what was looked at can vanish, and one that
takes connections without answering has not.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from hcp_pipelines.devices.discovery.found import GPU_NODE, Found
from hcp_pipelines.devices.miner.telemetry import Dialect
from hcp_pipelines.devices.settling import family

FIRMWARE_OF_DIALECT: Mapping[str, str] = {
    Dialect.ANTMINER: "stock",
    Dialect.WHATSMINER_V2: "whatsminer",
    Dialect.WHATSMINER_V3: "whatsminer-v3",
    Dialect.LUXOS: "luxos",
    Dialect.BRAIINS: "braiins",
    GPU_NODE: "stock",
}


CONFLICTS_SHOWN = 3


class Kind(StrEnum):
    """What happened to a slot."""

    DISCOVERED = "discovered"  # seen for the first time
    VANISHED = "vanished"
    RETURNED = "returned"
    MOVED = "moved"  # the same device at another address
    SWAPPED = "swapped"  # another device at the slot's address
    MODEL_CHANGED = "model_changed"  # not the model that the inventory has


@dataclass(frozen=True, slots=True)
class Known:
    """A slot of the inventory. Without a MAC and a serial number nobody was ever seen there.

    Of a GPU the address is its node's and the serial number its board's uuid.
    """

    slot: int
    group_id: str
    address: str
    model: str  # of the device, as last seen; else of its group
    mac: str = ""
    serial: str = ""
    is_vanished: bool = False

    @property
    def was_seen(self) -> bool:
        """Whether a device is known there."""
        return bool(self.mac or self.serial)

    @property
    def is_present(self) -> bool:
        """Whether somebody was there at the last look."""
        return self.was_seen and not self.is_vanished


@dataclass(frozen=True, slots=True)
class GroupKind:
    """What belongs into a group."""

    group_id: str
    model: str
    firmware: str


@dataclass(frozen=True, slots=True)
class Change:
    """One slot's change; `found` is None where nobody is."""

    kind: Kind
    slot: int
    before: Known
    found: Found | None = None


@dataclass
class Reconciliation:
    """All changes, and devices for which there is no slot."""

    changes: list[Change] = field(default_factory=list)
    unplaced: list[Found] = field(default_factory=list)
    were_present: int = 0  # devices that were there before
    conflicts: list[Change] = field(default_factory=list)  # moves that are not believed: the old address is still alive

    @property
    def vanished(self) -> frozenset[int]:
        """Slots whose device no longer answers."""
        return frozenset(change.slot for change in self.changes if change.kind is Kind.VANISHED)

    @property
    def summary(self) -> str:
        """`2 moved, 1 vanished`; empty if nothing changed."""
        counts = Counter(change.kind for change in self.changes)
        return ", ".join(f"{counts[kind]} {kind}" for kind in Kind if counts[kind])

    @property
    def conflict(self) -> str:
        """What two addresses claim, in words; empty where none do."""
        shown = [
            f"slot {one.slot}: {one.found.address} says that it is the device of {one.before.address}, which still answers"
            for one in self.conflicts[:CONFLICTS_SHOWN]
            if one.found is not None
        ]
        more = len(self.conflicts) - len(shown)
        return "; ".join(shown) + (f"; and {more} more" if more else "") + (": not moved" if shown else "")


def reconcile(
    known: Sequence[Known],
    groups: Iterable[GroupKind],
    found: Sequence[Found],
    looked_at: AbstractSet[str],
    hung: AbstractSet[str] = frozenset(),
) -> Reconciliation:
    """Changes by slot. `looked_at`: the addresses scanned, without those that hang (`hung`)."""
    result, seen = Reconciliation(were_present=sum(one.is_present for one in known)), _Seen(found)
    homeless: list[Known] = []
    for one in known:
        match = seen.take_same(one)
        if match is None:
            homeless.append(one)
        elif match.address != one.address and (one.address in hung or seen.is_nameless_at(one.address)):
            seen.take_at(one.address)
            result.conflicts.append(Change(Kind.MOVED, one.slot, one, match))
            result.unplaced.append(match)
        else:
            result.changes += _of_same(one, match)
    vacant: list[Known] = []
    for one in homeless:
        other = seen.take_at(one.address)
        if other is not None and not (other.mac or other.serial):
            continue  # it answers without saying who it is: next time, perhaps
        if other is not None:
            kind = Kind.SWAPPED if one.was_seen else Kind.DISCOVERED
            result.changes += [Change(kind, one.slot, one, other), *other_model(one, other)]
        elif one.is_present and one.address in looked_at:
            result.changes.append(Change(Kind.VANISHED, one.slot, one))
        elif one.address in looked_at:
            vacant.append(one)  # nobody was ever there, or it has been gone since an earlier scan
    strangers = seen.left()
    result.unplaced += [one for one in strangers if seen.is_contested(one)]
    _place(
        result,
        [one for one in strangers if not seen.is_contested(one)],
        vacant,
        {group.group_id: group for group in groups},
    )
    result.changes.sort(key=lambda change: change.slot)
    return result


class _Seen:
    """Found devices that no slot has taken yet."""

    def __init__(self, found: Sequence[Found]) -> None:
        self._left: dict[str, Found] = {one.address: one for one in found}
        self._by_mac, self._by_serial = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for one in found:
            if one.mac:
                self._by_mac[one.mac].append(one.address)
            if one.serial:
                self._by_serial[one.serial].append(one.address)

    def take_same(self, known: Known) -> Found | None:
        """The very device of a slot, wherever it is."""
        claims = self._by_mac.get(known.mac, []) if known.mac else self._by_serial.get(known.serial, [])
        address = known.address if known.address in claims else claims[0] if len(claims) == 1 else None
        if address is None and known.was_seen:
            address = known.address if self.is_nameless_at(known.address) else None
        return self._left.pop(address, None) if address is not None else None

    def is_nameless_at(self, address: str) -> bool:
        """Whether somebody answers at an address and doesn't say who it is."""
        here = self._left.get(address)
        return here is not None and not here.mac and not here.serial

    def is_contested(self, one: Found) -> bool:
        """Whether several claim to be this device: then whoever is at the slot's address is believed, and nobody else."""
        return bool(one.mac) and len(self._by_mac[one.mac]) > 1

    def take_at(self, address: str) -> Found | None:
        """Whoever is at an address."""
        return self._left.pop(address, None)

    def left(self) -> list[Found]:
        """The rest."""
        return list(self._left.values())


def _of_same(known: Known, found: Found) -> list[Change]:
    changes = []
    if found.address != known.address:
        changes.append(Change(Kind.MOVED, known.slot, known, found))
    elif known.is_vanished:
        changes.append(Change(Kind.RETURNED, known.slot, known, found))
    return changes + other_model(known, found)


def other_model(known: Known, found: Found) -> list[Change]:
    """The change of a model, if it is one."""
    is_other = found.model and found.model != known.model
    return [Change(Kind.MODEL_CHANGED, known.slot, known, found)] if is_other else []


def _place(
    result: Reconciliation, strangers: Sequence[Found], vacant: Sequence[Known], groups: Mapping[str, GroupKind]
) -> None:
    """Give each new device the first vacant slot of a group that it belongs into."""
    free = list(vacant)
    for stranger in strangers:
        place = next((one for one in free if fits(stranger, groups[one.group_id])), None)
        if place is None:
            result.unplaced.append(stranger)
        else:
            free.remove(place)
            result.changes.append(Change(Kind.DISCOVERED, place.slot, place, stranger))


def fits(found: Found, group: GroupKind) -> bool:
    """Whether a device belongs into a group."""
    return found.model == group.model and FIRMWARE_OF_DIALECT.get(found.dialect) == family(group.firmware)


def addresses_after(before: Mapping[int, str], moved: Mapping[int, str]) -> dict[int, str]:
    """Addresses by slot once some devices are elsewhere: each once, and as many as there were.

    Whose address was taken by another device did not answer at it: it gets one that nobody has any more.

    >>> addresses_after({0: "10.0.0.1", 1: "10.0.0.2", 2: "10.0.0.3"}, {0: "10.0.0.2"})
    {0: '10.0.0.2', 1: '10.0.0.1', 2: '10.0.0.3'}
    """
    after = dict(before) | dict(moved)
    taken = set(moved.values())
    kept = {address for slot, address in before.items() if slot not in moved and address not in taken}
    left = iter([address for address in before.values() if address not in taken and address not in kept])
    for slot in before:
        if slot not in moved and after[slot] in taken:
            after[slot] = next(left)
    return after
