"""How far an order has got: what its owner commanded, what of it was acknowledged and settled, what the gateway sees now."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import psycopg

from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory
from hcp_pipelines.operators.availability import mask_of
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import client_tls, open_blocking_channel
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayStub

AT_ONCE = 16  # gateways asked
READ_WITHIN_S = 5.0
METER_SLACK = 0.02  # of a limit: devices of one model differ by so much in what they draw
_ADDRESSES = "select facility_id, address from gateway_endpoints"
_DEVICES = """
    select coalesce(sum(c.devices), 0), coalesce(sum(a.devices), 0), coalesce(sum(a.refused + a.deferred), 0),
           coalesce(sum(s.devices), 0), coalesce(sum(s.failed), 0), coalesce(sum(s.superseded), 0)
    from switch_journal c
    left join switch_journal a on (a.command_id, a.assignment, a.event) = (c.command_id, c.assignment, 'acked')
    left join switch_journal s on (s.command_id, s.assignment, s.event) = (c.command_id, c.assignment, 'settled')
    where c.facility_id = %s and c.event = 'commanded' and c.reason_detail like %s and c.id > %s
      and not exists (select from switch_journal e
                      where (e.command_id, e.assignment, e.event) = (c.command_id, c.assignment, 'expired'))"""
_NEWEST = "select coalesce(max(id), 0) from switch_journal where facility_id = %s"

States = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
UNKNOWN = 255


@dataclass(frozen=True, slots=True)
class Progress:
    """Devices commanded for an order; of those acknowledged, or not taken; of those settled, not in time, or told else since."""

    commanded: int = 0
    acked: int = 0
    not_taken: int = 0
    settled: int = 0
    failed: int = 0
    superseded: int = 0

    @property
    def is_judged(self) -> bool:
        """Whether the gateway has answered for every device, and has judged by its power each that it took."""
        is_answered = self.acked + self.not_taken >= self.commanded
        return is_answered and self.settled + self.failed + self.superseded >= self.acked


def newest_row(connection: psycopg.Connection[Any], facility_id: str) -> int:
    """Where the facility's journal ends now: what an order brings comes behind it."""
    row = connection.execute(_NEWEST, (facility_id,)).fetchone()
    return int(row[0]) if row else 0


def progress_of(connection: psycopg.Connection[Any], facility_id: str, name: str, after: int = 0) -> Progress:
    """What the journal says of an order by its name, `curtail/7`, behind a row."""
    row = connection.execute(_DEVICES, (facility_id, f"%{name}:%", after)).fetchone()
    return Progress(*map(int, row or ()))


def gateway_addresses(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The gRPC address of each facility's gateway, as far as one is known."""
    return dict(connection.execute(_ADDRESSES).fetchall())


def read_gateway(settings: Settings, connection: psycopg.Connection[Any], facility_id: str) -> pb.FacilityState:
    """A facility's present state, from its gateway.

    Raises:
        HcpError: it can't be asked.
    """
    return _ask(settings, gateway_addresses(connection), facility_id)


def read_gateways(
    settings: Settings, addresses: Mapping[str, str], facilities: Sequence[str]
) -> dict[str, pb.FacilityState | HcpError]:
    """Facilities' present states, or why one can't be asked; side by side, so that a mute gateway delays no other."""

    def read(facility_id: str) -> pb.FacilityState | HcpError:
        try:
            return _ask(settings, addresses, facility_id)
        except HcpError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(facilities, pool.map(read, facilities), strict=True))


def _ask(settings: Settings, addresses: Mapping[str, str], facility_id: str) -> pb.FacilityState:
    if facility_id not in addresses:
        raise HcpError(f"{facility_id}: no gateway is known for it yet; `hcp status` tells what runs")
    with open_blocking_channel(addresses[facility_id], client_tls(settings, "reader")) as channel:
        try:
            request = pb.ReadRequest(facility_id=facility_id)
            state: pb.FacilityState = EdgeGatewayStub(channel).Read(request, timeout=READ_WITHIN_S)
        except grpc.RpcError as error:
            raise HcpError(
                f"{facility_id}: its gateway does not answer ({error.code().name}); `hcp status` tells more"
            ) from None
    return state


def meter_mw(state: pb.FacilityState) -> float:
    """All-in MW at the facility's meter."""
    return state.power_kw / 1000


Reached = Callable[[pb.FacilityState], bool]


def is_below(inventory: FacilityInventory, cap_mw: float) -> Reached:
    """Whether the meter shows no more than a limit, and what the devices were told last keeps it there."""

    def reached(state: pb.FacilityState) -> bool:
        limit_mw = cap_mw * (1 + METER_SLACK) + 1e-6
        told, mw = _sized(state.states, inventory), 0.0
        for group in inventory.groups:
            mine = told[_slots_of(group)]
            mw += sum(inventory.all_in_mw(group, step.state, int((mine == step.state).sum())) for step in group.ladder)
        return meter_mw(state) <= limit_mw and mw <= limit_mw

    return reached


def are_down(inventory: FacilityInventory, slots: npt.NDArray[np.uint32] | None = None, feeder_id: str = "") -> Reached:
    """Whether devices that answer are in their group's lowest state: all, those of a feeder, or some slots."""
    wanted = _chosen(inventory, slots, feeder_id)

    def reached(state: pb.FacilityState) -> bool:
        return not any((_others(state, inventory, g, g.lowest) & wanted).any() for g in inventory.groups)

    return reached


def are_locked(
    inventory: FacilityInventory, slots: npt.NDArray[np.uint32] | None = None, feeder_id: str = ""
) -> Reached:
    """Whether such devices are down and their gateway holds them locked: down alone, a wave under way could raise them again."""
    down, wanted = are_down(inventory, slots, feeder_id), _chosen(inventory, slots, feeder_id)

    def reached(state: pb.FacilityState) -> bool:
        return down(state) and not (wanted & ~mask_of(state.locked, inventory)).any()

    return reached


def _chosen(inventory: FacilityInventory, slots: npt.NDArray[np.uint32] | None, feeder_id: str) -> Bools:
    """[n] the devices of a feeder (empty: of all), or those of them in some slots."""
    chosen = np.zeros(inventory.slots, dtype=np.bool_)
    for group in inventory.groups:
        chosen[_slots_of(group)] = feeder_id in ("", group.feeder_id)
    if slots is not None:
        chosen[np.setdiff1d(np.arange(inventory.slots), slots)] = False
    return chosen


def are_in(inventory: FacilityInventory, group_id: str, state: DeviceState, devices: int | None) -> Reached:
    """Whether so many devices of a group (None: all that answer) are in a state."""
    group = next(g for g in inventory.groups if g.group_id == group_id)

    def reached(seen: pb.FacilityState) -> bool:
        others = int(_others(seen, inventory, group, state).sum())
        unseen = int((_sized(seen.observed, inventory)[_slots_of(group)] == UNKNOWN).sum())
        return others == 0 if devices is None else group.devices - unseen - others >= devices

    return reached


def _others(seen: pb.FacilityState, inventory: FacilityInventory, group: GroupInventory, state: DeviceState) -> Bools:
    """[n] devices of a group that answer and draw another state's power, or were told another one: they may be on the way."""
    power = group.power_kw_by_state()
    same = [int(s) for s, kw in power.items() if abs(kw - power[state]) < 1e-9]
    observed, told = _sized(seen.observed, inventory), _sized(seen.states, inventory)
    is_other = ~np.isin(observed, same) | ((told != UNKNOWN) & ~np.isin(told, same))
    others = np.zeros(inventory.slots, dtype=bool)
    mine = _slots_of(group)
    others[mine] = is_other[mine] & (observed[mine] != UNKNOWN)
    return others


def _sized(raw: bytes, inventory: FacilityInventory) -> States:
    """A gateway's byte a slot, at the inventory's length."""
    told = np.frombuffer(raw, dtype=np.uint8)
    sized = np.full(inventory.slots, UNKNOWN, dtype=np.uint8)
    known = min(len(told), len(sized))
    sized[:known] = told[:known]
    return sized


def _slots_of(group: GroupInventory) -> slice:
    return slice(group.first_slot, group.first_slot + group.devices)
