"""Which GPU node answers at an address: its GPUs, their slots, and the identities that never change.

Node j of a group of GPUs holds the group's slots 8j … 8j+7 and has the address of the first of them; other addresses of GPUs,
and those of miners, answer nothing on these ports. A node costs nothing until somebody asks for it.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from pyroaring import BitMap

from simulators.addresses import address_of, locate
from simulators.fleet import Fleet, Site
from simulators.gpus.config import GPUS_PER_NODE
from simulators.settings import GroupConfig

DRIVER_VERSION = "550.90.07"
_BUSES = ("1B", "43", "52", "61", "9D", "C3", "D1", "DF")  # as an HGX H100 board has them
_MODEL_NAMES: Mapping[str, tuple[str, str]] = {
    "H100 SXM5": ("NVIDIA H100 80GB HBM3", "9.0"),
    "H100 PCIe": ("NVIDIA H100 PCIe", "9.0"),
    "H200": ("NVIDIA H200", "9.0"),
    "A100 SXM4": ("NVIDIA A100-SXM4-80GB", "8.0"),
    "B200": ("NVIDIA B200", "10.0"),
}


class Gpu(NamedTuple):
    """One board as the driver shows it."""

    number: int
    slot: int
    uuid: str
    pci_bus_id: str
    model_name: str
    compute_capability: str
    hostname: str


class Node(NamedTuple):
    """One host with its GPUs."""

    hostname: str
    site: Site
    group: GroupConfig
    first_slot: int
    gpus: tuple[Gpu, ...]

    @property
    def states(self) -> frozenset[int]:
        """State codes its GPUs can be commanded into."""
        return frozenset(state.state for state in self.group.states)

    @property
    def key(self) -> str:
        """Names it and the group it is of, for what is remembered of it."""
        return f"{self.site.config.site}/{self.site.keys[self.group.group]}/{self.first_slot}"


class Nodes:
    """Every GPU node of the world, by address."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._sites = tuple(fleet.sites.values())
        self._seed = seed
        self._known: dict[str, Node | None] = {}

    def at(self, address: str) -> Node | None:
        """The node that has this IPv4 address; None where there is none."""
        if address not in self._known:
            node = self._find(address)
            if node is None:
                return None
            self._known[address] = node
        return self._known[address]

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites whose nodes these are."""
        return self._sites

    def of_slots(self, site: Site, slots: BitMap) -> dict[str, list[int]]:
        """By hostname, which GPUs of which nodes some slots of a site are."""
        found: dict[str, list[int]] = {}
        for group in site.config.groups if len(slots) else ():
            if group.kind == "GPU":
                for slot in slots & BitMap(range(group.first_slot, group.end_slot)):
                    number, gpu = divmod(slot - group.first_slot, GPUS_PER_NODE)
                    found.setdefault(_hostname(site, group, number), []).append(gpu)
        return found

    def of_key(self, key: str) -> Node | None:
        """The node that a key names; None where there is none, or another one stands in its place."""
        name, _, slot = (*key.rsplit("/", 2), "", "")[:3]
        for index, site in enumerate(self._sites):
            if site.config.site == name and slot.isdecimal() and int(slot) < site.devices:
                node = self.at(address_of(index, int(slot)))
                return node if node is not None and node.key == key else None
        return None

    def _find(self, address: str) -> Node | None:
        found = locate(address)
        if found is None or found[0] >= len(self._sites):
            return None
        site, slot = self._sites[found[0]], found[1]
        for group in site.config.groups:
            if group.kind == "GPU" and group.first_slot <= slot < group.end_slot:
                is_first = (slot - group.first_slot) % GPUS_PER_NODE == 0
                return self._make(site, group, slot) if is_first else None
        return None

    def _make(self, site: Site, group: GroupConfig, first_slot: int) -> Node:
        number = (first_slot - group.first_slot) // GPUS_PER_NODE
        hostname = _hostname(site, group, number)
        size = min(GPUS_PER_NODE, group.end_slot - first_slot)
        gpus = tuple(self._gpu(site, group, first_slot + index, index, hostname) for index in range(size))
        return Node(hostname, site, group, first_slot, gpus)

    def _gpu(self, site: Site, group: GroupConfig, slot: int, index: int, hostname: str) -> Gpu:
        name, capability = _MODEL_NAMES.get(group.model, (f"NVIDIA {group.model}", "9.0"))
        seen_as = hashlib.blake2b(f"{self._seed}/gpu/{site.config.site}/{slot}".encode(), digest_size=16).digest()
        uuid = f"GPU-{UUID(bytes=seen_as)}"
        return Gpu(index, slot, uuid, f"00000000:{_BUSES[index]}:00.0", name, capability, hostname)


def _hostname(site: Site, group: GroupConfig, number: int) -> str:
    return f"{site.config.site}-{group.group}-node-{number:04d}"
