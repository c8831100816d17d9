"""Which devices of a group work gets: all of them or none, near to each other, and so that whole nodes stay whole.

Numbers are those of the group, from 0. A node is so many devices that follow each other; an island is a part of a node whose
GPUs are linked directly, a rack so many nodes. Best fit throughout: what leaves least over.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from hcp_pipelines.workloads.routing.needs import Colocation

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Topology:
    """Devices of a node, of an island within it, and nodes of a rack; 1 device a node where nothing is known."""

    node: int = 1
    island: int = 1
    rack_nodes: int = 1

    @classmethod
    def of(cls, node: int, island: int = 0, rack_nodes: int = 0) -> Self:
        """As told; an island that doesn't divide its node, or none, is the node; no rack: each node is one."""
        node = max(node, 1)
        return cls(node, island if island > 0 and node % island == 0 else node, max(rack_nodes, 1))


class Free:
    """The devices of a group that are free, and how many of each node."""

    def __init__(self, free: Bools, topology: Topology) -> None:
        self.free, self.topology = free, topology
        nodes = -(-len(free) // topology.node)
        padded = np.zeros(nodes * topology.node, dtype=bool)
        padded[: len(free)] = free
        self.of_node: Ints = padded.reshape(nodes, topology.node).sum(axis=1, dtype=np.int64)
        self.count = int(self.of_node.sum())

    def take(self, slots: Ints) -> None:
        """These are no longer free."""
        self._set(slots, -1, is_free=False)

    def give(self, slots: Ints) -> None:
        """These are free again."""
        self._set(slots, 1, is_free=True)

    def copy(self) -> "Free":
        """To try something out."""
        return Free(self.free.copy(), self.topology)

    def _set(self, slots: Ints, step: int, *, is_free: bool) -> None:
        changed = slots[self.free[slots] != is_free]
        self.free[changed] = is_free
        np.add.at(self.of_node, changed // self.topology.node, step)
        self.count += step * len(changed)


def pack(room: Free, count: int, colocation: Colocation) -> Ints | None:
    """The slots for `count` devices, ascending; None where they can't be had so near to each other."""
    if count > room.count:
        return None
    if colocation is Colocation.ANY:
        return _anywhere(room, count)
    if count <= room.topology.node:
        return _on_one_node(room, count)
    return _on_whole_nodes(room, count, within_rack=colocation is Colocation.RACK)


def _on_one_node(room: Free, count: int) -> Ints | None:
    fits = room.of_node >= count
    if not fits.any():
        return None
    node = int(np.where(fits, room.of_node, room.topology.node + 1).argmin())
    return _of_node(room, node, count)


def _of_node(room: Free, node: int, count: int) -> Ints:
    """So many free ones of a node: of the island that they fit best, else of the fullest islands first."""
    size, island = room.topology.node, room.topology.island
    slots: Ints = np.flatnonzero(room.free[node * size : (node + 1) * size]) + node * size
    if count == len(slots) or island == size:
        return slots[:count]
    of = (slots - node * size) // island
    free = np.bincount(of, minlength=size // island)
    fits = free >= count
    if fits.any():
        slots = slots[of == int(np.where(fits, free, size + 1).argmin())]
        return slots[:count]
    chosen: Ints = np.sort(slots[np.argsort(-free[of], kind="stable")][:count])
    return chosen


def _on_whole_nodes(room: Free, count: int, *, within_rack: bool) -> Ints | None:
    """Whole nodes and, for what is over, the node that it fits best; of one rack if there is one, of few if it has to be."""
    size = room.topology.node
    whole, rest = divmod(count, size)
    rack_of = np.arange(len(room.of_node)) // room.topology.rack_nodes
    empty = room.of_node == size
    racks = np.bincount(rack_of[empty], minlength=int(rack_of[-1]) + 1)
    enough = racks >= whole
    for rack in np.flatnonzero(enough)[np.argsort(racks[enough], kind="stable")].tolist():
        found = _nodes(room, np.flatnonzero(empty & (rack_of == rack))[:whole], rest, rack_of == rack)
        if found is not None:
            return found
    if within_rack or int(empty.sum()) < whole:
        return None
    nodes = np.flatnonzero(empty)
    fullest_first = nodes[np.argsort(-racks[rack_of[nodes]], kind="stable")]
    return _nodes(room, fullest_first[:whole], rest, np.ones(len(empty), dtype=bool))


def _nodes(room: Free, whole: Ints, rest: int, where: Bools) -> Ints | None:
    size = room.topology.node
    slots: Ints = (whole[:, None] * size + np.arange(size)).ravel()
    if rest:
        fits = (room.of_node >= rest) & where
        fits[whole] = False
        if not fits.any():
            return None
        node = int(np.where(fits, room.of_node, size + 1).argmin())
        slots = np.concatenate([slots, _of_node(room, node, rest)])
    slots.sort()
    return slots


def _anywhere(room: Free, count: int) -> Ints:
    """One node if they fit on one; else of those first that are broken into most, so that whole nodes stay whole."""
    if count <= room.topology.node and (together := _on_one_node(room, count)) is not None:
        return together
    some = np.flatnonzero(room.of_node)
    some = some[np.argsort(room.of_node[some], kind="stable")]
    ends = np.cumsum(room.of_node[some])
    used = int(np.searchsorted(ends, count)) + 1
    size = room.topology.node
    slots: Ints = (some[:used, None] * size + np.arange(size)).ravel()
    slots = slots[slots < len(room.free)]
    chosen: Ints = np.sort(slots[room.free[slots]][:count])
    return chosen
