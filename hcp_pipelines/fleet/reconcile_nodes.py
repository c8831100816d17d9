"""GPU nodes that a scan found against the inventory, board by board. Pure; the words are `reconcile`'s.

A slot is a place: the n-th board of a node. A node is known by its boards' uuids, and keeps its slots wherever it moves as long
as most of its boards go with it; else it is known by its address. A board that is somewhere else has moved, one that was never
seen has been swapped in. A node that doesn't say who it is changes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from hcp_pipelines.devices.discovery.found import Found
from hcp_pipelines.fleet.reconcile import Change, GroupKind, Kind, Known, Reconciliation, fits, other_model


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node of the inventory: a slot for each of its boards."""

    address: str
    boards: tuple[Known, ...]

    @property
    def group_id(self) -> str:
        """The group of its slots."""
        return self.boards[0].group_id

    @property
    def was_seen(self) -> bool:
        """Whether any board is known there."""
        return any(board.was_seen for board in self.boards)


def reconcile_nodes(
    known: Sequence[KnownNode],
    groups: Iterable[GroupKind],
    found: Sequence[Found],
    looked_at: AbstractSet[str],
    hung: AbstractSet[str] = frozenset(),
) -> Reconciliation:
    """Changes by slot. `looked_at`: the addresses scanned, without those that hang (`hung`)."""
    left = {one.address: one for one in found}
    slot_of = _slots_by_uuid(known)
    result = Reconciliation(were_present=sum(board.is_present for node in known for board in node.boards))
    at = dict(_same_nodes(known, left))
    for address in {one.address for one in at.values()}:
        del left[address]
    for node in [node for node in known if node.address in hung and node.address in at]:  # one of the two lies
        claimant = at.pop(node.address)
        result.conflicts.append(Change(Kind.MOVED, node.boards[0].slot, node.boards[0], claimant))
        result.unplaced.append(claimant)
    vacant: list[KnownNode] = []
    for node in known:
        one = at.get(node.address) or left.pop(node.address, None)
        if one is not None and one.boards:
            result.changes += _of_node(node, one, slot_of)
        elif one is None and node.address in looked_at:
            result.changes += [Change(Kind.VANISHED, board.slot, board) for board in node.boards if board.is_present]
            if not node.was_seen:
                vacant.append(node)
    kinds = {group.group_id: group for group in groups}
    claims = Counter(uuid for one in found for uuid in one.boards)
    for stranger in left.values():
        if any(claims[uuid] > 1 for uuid in stranger.boards):
            result.unplaced.append(stranger)
            continue
        place = next((node for node in vacant if stranger.boards and fits(stranger, kinds[node.group_id])), None)
        if place is None:
            result.unplaced.append(stranger)
        else:
            vacant.remove(place)
            result.changes += _of_node(place, stranger, slot_of)
    result.changes.sort(key=lambda change: change.slot)
    return result


def _slots_by_uuid(known: Sequence[KnownNode]) -> dict[str, int]:
    """Where each board was last seen; where it is still thought to be goes before where it is not."""
    boards = [board for node in known for board in node.boards if board.was_seen]
    return {board.serial: board.slot for board in sorted(boards, key=lambda board: not board.is_vanished)}


def _same_nodes(known: Sequence[KnownNode], found: dict[str, Found]) -> Iterator[tuple[str, Found]]:
    """(address of before, node found) where more than half of a known node's boards are."""
    claims = Counter(uuid for one in found.values() for uuid in one.boards)
    at = {uuid: one.address for one in found.values() for uuid in one.boards if claims[uuid] == 1}
    for node in known:  # of a board that several claim whoever is at its own address is believed
        if node.address in found:
            own = {board.serial for board in node.boards}
            at |= {uuid: node.address for uuid in found[node.address].boards if claims[uuid] > 1 and uuid in own}
    taken: set[str] = set()
    for node in known:
        seen = [board.serial for board in node.boards if board.was_seen]
        where = Counter(at[uuid] for uuid in seen if uuid in at).most_common(1)
        if where and 2 * where[0][1] > len(seen) and where[0][0] not in taken:
            taken.add(where[0][0])
            yield node.address, found[where[0][0]]


def _of_node(node: KnownNode, found: Found, slot_of: dict[str, int]) -> Iterator[Change]:
    for index, board in enumerate(node.boards):
        uuid = found.boards[index] if index < len(found.boards) else ""
        here = replace(found, serial=uuid, boards=())
        if uuid:
            kind = _kind(board, uuid, found.address, slot_of)
            yield from [Change(kind, board.slot, board, here)] if kind else []
            yield from other_model(board, here)
        elif board.is_present:
            yield Change(Kind.VANISHED, board.slot, board)


def _kind(board: Known, uuid: str, address: str, slot_of: dict[str, int]) -> Kind | None:
    if uuid == board.serial:
        if address != board.address:
            return Kind.MOVED
        return Kind.RETURNED if board.is_vanished else None
    if uuid in slot_of:
        return Kind.MOVED
    return Kind.SWAPPED if board.was_seen else Kind.DISCOVERED
