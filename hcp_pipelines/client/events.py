"""Server-sent events, followed over broken connections: each goes on behind the last event that was heard."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from hcp_pipelines.client.errors import ApiReplyError, ApiUnreachableError, ClientError
from hcp_pipelines.client.shapes import StateChanged
from hcp_pipelines.client.transport import Transport

EVENTS = "/api/v1/workloads/events"
STATE_CHANGED = "workload.state.changed"
LONGEST_LINE_BYTES = 1 << 20
AGAIN_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection stands: from here on nothing is missed. `after` None: nor is anything known of what was before."""

    after: int | None


def follow(transport: Transport, after: int | None) -> Iterator[Opened | StateChanged]:
    """What happens behind an event, or from now on; an `Opened` before it whenever a connection stands anew. It does not end.

    Raises:
        ClientError: the API refuses, or can't be had again until patience ends.
    """
    patience = transport.patience()
    while True:
        has_stood = False
        try:
            with transport.stream(EVENTS, {} if after is None else {"Last-Event-ID": str(after)}) as told:
                has_stood = True
                yield Opened(after)
                for event in events_in(told):
                    if isinstance(event, StateChanged):
                        after = event.event_id
                        yield event
                    else:
                        after = event
            ended_by = _ended(transport)
        except ClientError as error:
            ended_by = error
        if has_stood:
            patience = transport.patience()  # from the break on
        if not patience.outlasts(ended_by):
            raise ended_by


def _ended(transport: Transport) -> ClientError:
    """The API ends a stream after an hour, when it stops, and when the key does: which of them, the next try is told."""
    ended = ApiUnreachableError(f"{transport.base_url}: the stream ended")
    ended.retry_after_s = AGAIN_AFTER_S
    return ended


def events_in(told: Iterable[bytes]) -> Iterator[StateChanged | int]:
    r"""The state changes of a stream, and ids alone, behind which it goes on; comments and other events are passed over.

    Source: WHATWG HTML, server-sent events.

    Raises:
        ApiReplyError: what comes is no such stream.
    """
    fields: dict[str, str] = {}
    for line in _lines(told):
        name, _, value = line.partition(":")
        if line and name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        elif not line:
            if "data" in fields and fields.get("event") == STATE_CHANGED:
                yield _state_changed(fields)
            elif fields.keys() == {"id"} and fields["id"].isdecimal():
                yield int(fields["id"])
            fields = {}


def _state_changed(fields: dict[str, str]) -> StateChanged:
    try:
        change = StateChanged.model_validate_json(fields["data"])
        return change.model_copy(update={"event_id": int(fields["id"])})
    except (ValidationError, ValueError, KeyError) as error:
        raise ApiReplyError(f"an event can't be read: {error}") from None


def _lines(told: Iterable[bytes]) -> Iterator[str]:
    """Whole lines by line feeds alone: a text may hold what else ends lines elsewhere. What a break cuts off is dropped."""
    rest = b""
    for piece in told:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE_BYTES:
            raise ApiReplyError(f"a line of the stream is above {LONGEST_LINE_BYTES} bytes: no API of this kind")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
