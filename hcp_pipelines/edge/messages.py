"""What an owner is told: settled devices, and what the log's entries mean to it. Pure."""

from hcp_pipelines.edge.recovery import is_local
from hcp_pipelines.edge.settling import Pending, joined
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from hcp_pipelines.wire.work import TEXT_MAX


def settled_message(pending: Pending, seq: int, at: str) -> pb.Settled:
    """An assignment that is decided."""
    return pb.Settled(
        command_id=pending.command_id,
        seq=seq,
        index=pending.index,
        settled=encode_slots(joined(pending.settled)),
        failed=encode_slots(pending.failed),
        superseded=encode_slots(joined(pending.superseded)),
        simulated_at=at,
        unfit=encode_slots(pending.unfit),
        problem=pending.problem[:TEXT_MAX],
        not_now=encode_slots(pending.left_alone),
    )


def message_of(entry: pb.LogEntry) -> pb.GatewayMessage | None:
    """What an owner is told of an entry."""
    match entry.kind:
        case "ack" | "expired":
            return pb.GatewayMessage(ack=pb.Ack.FromString(entry.payload))
        case "settled":
            settled = pb.Settled.FromString(entry.payload)
            return None if is_local(settled.command_id) else pb.GatewayMessage(settled=settled)
        case "local":
            event = pb.LocalEvent.FromString(entry.payload)
            event.seq = entry.seq  # it may have been stored later than it was done
            return pb.GatewayMessage(local_event=event)
        case "saved":
            return pb.GatewayMessage(saved=pb.Saved.FromString(entry.payload))
        case _:
            return None
