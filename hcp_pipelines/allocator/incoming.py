"""What a gateway may say, looked at before it is believed. Pure.

A field that makes no sense would end the owner's task, or make Postgres refuse a batch in which other facilities' outcomes
stand too. Bitmaps are checked where they are unpacked.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from hcp_pipelines.domain.clock import FIRST_YEAR, LAST_YEAR
from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.wire import edge_v1_pb2 as pb

TEXT_MAX = 1000
INTEGER_MAX = 2**31 - 1  # of the journal's columns
BIGINT_MAX = 2**63 - 1
MW_MAX = 10_000.0  # of one event: more than any facility has


def check(message: pb.GatewayMessage) -> None:
    """Do nothing.

    Raises:
        ValueError: a field makes no sense; the message names it.
    """
    match message.WhichOneof("body"):
        case "ack":
            ack = message.ack
            codes = [refused.code for answer in ack.assignments for refused in answer.refused]
            _check(ack.command_id, ack.seq, (answer.index for answer in ack.assignments))
            _check_texts(ack.refusal, ack.detail, *codes)
        case "settled":
            settled = message.settled
            _check(settled.command_id, settled.seq, (settled.index,))
            _check_instant(settled.simulated_at)
        case "policy_judged":
            _check(None, message.policy_judged.seq, ())
            _check_texts(message.policy_judged.refusal)
        case "locks_held":
            _check(None, message.locks_held.seq, ())
            _check_texts(message.locks_held.refusal, message.locks_held.detail)
        case "saved":
            saved = message.saved
            _check(None, saved.seq, ())
            _check_texts(saved.workload_id, saved.checkpoint, saved.problem)
            _check_instant(saved.simulated_at)
        case "local_event":
            event = message.local_event
            _check(None, event.seq, ())
            _check_texts(event.kind, event.reason, event.actor, event.order_id, event.detail)
            if not abs(event.mw_delta) <= MW_MAX:
                raise ValueError(f"mw_delta {event.mw_delta}: not within {MW_MAX:g} MW")
            _check_instant(event.simulated_at)
            if event.state >= STATE_COUNT:
                raise ValueError(f"state {event.state}")


def _check(command_id: str | None, seq: int, indices: Iterable[int]) -> None:
    if command_id is not None:
        UUID(command_id)
    if seq > BIGINT_MAX:
        raise ValueError(f"sequence number {seq}")
    if (highest := max(indices, default=0)) > INTEGER_MAX:
        raise ValueError(f"assignment {highest}")


def _check_texts(*texts: str) -> None:
    for text in texts:
        if "\0" in text or len(text) > TEXT_MAX:
            raise ValueError(f"text {text[:40]!r} of {len(text)} characters")


def _check_instant(text: str) -> None:
    if not text:
        return
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or not FIRST_YEAR <= at.year < LAST_YEAR:
        raise ValueError(f"instant {text!r}: without an offset, or not between the years {FIRST_YEAR} and {LAST_YEAR}")
