"""Which devices of a facility answer, and of which it is known who they are: its gateway's word, and the inventory's records.

Reading only. Why a single device does not answer is in the gateway's log; what is at an address `hcp discover` says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.devices.gpu_node.values import GPUS_PER_NODE
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.fleet.comparing import has_nodes, places
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories
from hcp_pipelines.operators.availability import mask_of
from hcp_pipelines.operators.progress import gateway_addresses, read_gateways
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire import edge_v1_pb2 as pb

EXAMPLES = 3
_IDENTIFIED = """
    select facility_id, array_agg(slot) from resources
    where coalesce(metadata ->> 'mac', '') <> '' or coalesce(metadata ->> 'serial', '') <> '' group by facility_id"""


@dataclass(frozen=True, slots=True)
class Contact:
    """One facility's devices. `problem`: why its gateway can't be asked; then nothing is known of who answers."""

    facility_id: str
    devices: int
    dark: int = 0  # without power: a breaker or a relay has opened
    silent: int = 0  # with power, as far as is known, and without an answer
    identified: int = 0  # of those with addresses of their own: a scan knows who they are
    unidentified: int = 0
    examples: tuple[str, ...] = ()  # addresses, or slots, of silent ones
    problem: str = ""

    @property
    def said(self) -> str:
        """In one line.

        >>> Contact("west-1", 150, silent=125, unidentified=150, examples=("10.0.0.1",)).said
        "125 of 150 don't answer (10.0.0.1 …); 0 identified, 150 wait for identification"
        """
        if self.problem:
            return self.problem
        more = " …" if self.silent > len(self.examples) else ""
        examples = f" ({', '.join(self.examples)}{more})" if self.examples else ""
        answer = f"{self.silent} of {self.devices} don't answer{examples}" if self.silent else f"{self.devices} devices"
        dark = f", {self.dark} have no power" if self.dark else ""
        known = f"{self.identified} identified, {self.unidentified} wait for identification"
        return f"{answer}{dark}" + (f"; {known}" if self.identified or self.unidentified else "")

    def as_dict(self) -> dict[str, Any]:
        """As `hcp status --json` prints it."""
        return {name: value for name, value in asdict(self).items() if name != "facility_id"} | {"said": self.said}


def contacts(settings: Settings, connection: psycopg.Connection[Any]) -> list[Contact]:
    """Every facility with an inventory, by id; gateways are asked side by side."""
    inventories = load_inventories(connection)
    identified = dict(connection.execute(_IDENTIFIED).fetchall())
    states = read_gateways(settings, gateway_addresses(connection), [i.facility_id for i in inventories])
    return [_contact(i, states[i.facility_id], identified.get(i.facility_id, ())) for i in inventories]


def contact_of(inventory: FacilityInventory, state: pb.FacilityState, identified: Sequence[int]) -> Contact:
    """What a gateway's word and the records (slots of those whose identity is known) come to."""
    is_there = np.zeros(inventory.slots, dtype=np.bool_)
    for group in inventory.groups:
        is_there[group.first_slot : group.first_slot + group.devices] = True
    dark = mask_of(state.dark, inventory) & is_there
    silent = is_there & ~dark & ~mask_of(state.reachable, inventory)
    addresses = dict(_addressed(inventory))
    known = len(addresses.keys() & set(identified))
    return Contact(
        inventory.facility_id,
        inventory.devices,
        dark=int(dark.sum()),
        silent=int(silent.sum()),
        identified=known,
        unidentified=len(addresses) - known,
        examples=_examples(np.flatnonzero(silent).tolist(), addresses),
    )


def _contact(inventory: FacilityInventory, state: pb.FacilityState | HcpError, identified: Sequence[int]) -> Contact:
    if isinstance(state, HcpError):
        return Contact(inventory.facility_id, inventory.devices, problem=str(state))
    return contact_of(inventory, state, identified)


def _addressed(inventory: FacilityInventory) -> Iterator[tuple[int, str]]:
    """(slot, address) of each device that has one of its own, or its node's."""
    for group in inventory.groups:
        step = GPUS_PER_NODE if has_nodes(group) else 1
        for first, address in places(group):
            end = min(first + step, group.first_slot + group.devices)
            yield from ((slot, address) for slot in range(first, end))


def _examples(silent: Sequence[int], addresses: Mapping[int, str]) -> tuple[str, ...]:
    names = dict.fromkeys(addresses.get(slot, f"slot {slot}") for slot in silent[: GPUS_PER_NODE * EXAMPLES])
    return tuple(names)[:EXAMPLES]
