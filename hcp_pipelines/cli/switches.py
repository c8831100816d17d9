"""What gateways wrote down of switches of devices that ran something: read from their durable logs, without Postgres."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from hcp_pipelines.cli.common import print_json, print_table
from hcp_pipelines.cli.direct import chosen_gateways
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import client_tls, open_blocking_channel
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayStub
from hcp_pipelines.wire.slots import decode_slots

WITHIN_S = 30.0
LOOKED_AT = 20_000  # entries of a log, the newest
SLOTS_MAX = 1_000_000
PHASES = ("pause", "checkpoint", "switch", "start")
COLUMNS = ("simulated", "facility", "node", "slots", "from", "to", "outcome", "control ms", "phases ms", "problem")


@dataclass(frozen=True, slots=True)
class Shown:
    """A switch as it last stood."""

    facility_id: str
    switch: pb.Switch

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        switch = self.switch
        return {
            "facility_id": self.facility_id,
            "simulated_at": switch.simulated_at,
            "command_id": switch.command_id,
            "assignment": switch.index,
            "node": switch.node,
            "slots": decode_slots(switch.slots, SLOTS_MAX).tolist(),
            "from_state": DeviceState(switch.from_state).label,
            "to_state": DeviceState(switch.to_state).label,
            "workload_id": switch.work.workload_id or None,
            "stage": switch.stage,
            "outcome": switch.outcome or None,
            "success": switch.success,
            "total_duration_ms": round(switch.total_duration_ms, 1),
            "phases": _phases(switch.phases),
            "device": _phases(switch.device),
            "problem": switch.problem,
        }


def read_switches(settings: Settings, facilities: Sequence[str], last: int) -> list[Shown]:
    """The last so many switches of each facility (of all, if none is named), oldest first; each as it last stood.

    Raises:
        HcpError: a facility has no gateway here, or it does not answer.
    """
    found: list[Shown] = []
    for facility_id, address in chosen_gateways(settings, facilities).items():
        newest: dict[tuple[str, int, str, bytes], pb.Switch] = {}
        for switch in _entries(settings, facility_id, address):
            key = (switch.command_id, switch.index, switch.node, switch.slots)
            newest.pop(key, None)
            newest[key] = switch
        found += [Shown(facility_id, switch) for switch in list(newest.values())[-last:]]
    return found


def tell_switches(found: Sequence[Shown], *, as_json: bool) -> None:
    """Say what became of them."""
    rows = [one.as_dict() for one in found]
    if as_json:
        print_json({"switches": rows})
        return
    print_table("switches of what ran", COLUMNS, [_row(row) for row in rows])


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    phases = ", ".join(f"{name} {took:g}" for name, took in row["phases"].items())
    slots = ", ".join(map(str, row["slots"]))
    what = row["outcome"] or f"under way ({row['stage']})"
    when = row["simulated_at"][:19]
    return (
        when, row["facility_id"], row["node"], slots, row["from_state"], row["to_state"], what, row["total_duration_ms"],
        phases, row["problem"],
    )  # fmt: skip


def _phases(phases: pb.SwitchPhases) -> dict[str, float]:
    return {name: round(getattr(phases, f"{name}_ms"), 1) for name in PHASES if phases.HasField(f"{name}_ms")}


def _entries(settings: Settings, facility_id: str, address: str) -> Iterator[pb.Switch]:
    try:
        with open_blocking_channel(address, client_tls(settings, "reader")) as channel:
            stub = EdgeGatewayStub(channel)
            state: pb.FacilityState = stub.Read(pb.ReadRequest(facility_id=facility_id), timeout=WITHIN_S)
            after_seq = max(state.last_seq - LOOKED_AT, 0)
            while after_seq < state.last_seq:
                before = after_seq
                request = pb.ReadLogRequest(facility_id=facility_id, after_seq=after_seq)
                for entry in stub.ReadLog(request, timeout=WITHIN_S):
                    after_seq = entry.seq
                    if entry.kind == "switch":
                        yield pb.Switch.FromString(entry.payload)
                if after_seq == before:
                    return
    except grpc.RpcError as error:
        raise HcpError(f"{facility_id}: {address}: {error.code().name}: {error.details()}") from None
