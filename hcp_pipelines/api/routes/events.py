"""State changes of workloads as server-sent events; `Last-Event-ID` goes on where a connection broke, and loses none."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import StreamingResponse

from hcp_pipelines.api.principals import Everybody, Principal
from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.routes.workload_shapes import StateChanged
from hcp_pipelines.api.state import Api, api_of
from hcp_pipelines.workloads import store

router = APIRouter(prefix="/api/v1/workloads", tags=["workloads"])
MOST, MOST_OF_ONE = 500, 10
AT_ONCE = 200
HEARTBEAT_S = 5.0
LONGEST_S = 3600
BREATH_S = 0.05  # between two looks, however much happens
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "examples": ["4711"]},
        "event": {"const": "workload.state.changed"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": StateChanged.model_json_schema(),
        },
    },
    "required": ["id", "event", "data"],
}
_DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `workload.state.changed`; the data of each is a `StateChanged`. A comment every few seconds.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}


@router.get("/events", response_class=StreamingResponse, responses=_DESCRIBED)
async def events(
    principal: Everybody,
    request: Request,
    last_event_id: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, le=2**63 - 1, examples=[4711], description="0: from the first.")
    ] = None,
    within_s: Annotated[
        float, Query(ge=0, le=LONGEST_S, examples=[600], description="It ends after so long.")
    ] = LONGEST_S,
) -> StreamingResponse:
    """What happens from now on, or from behind `Last-Event-ID`; a customer's own."""
    api = api_of(request)
    if api.streams.total() >= MOST or api.streams[principal.account] >= MOST_OF_ONE:
        raise ProblemError(
            429, f"an account has at most {MOST_OF_ONE} streams, all together {MOST}", {"Retry-After": "5"}
        )
    if last_event_id is None:
        async with api.connection() as connection:
            last_event_id = await store.last_event(connection)
    given = request.headers["authorization"].partition(" ")[2]
    return StreamingResponse(_stream(api, principal, given, last_event_id, within_s), media_type="text/event-stream")


async def _stream(api: Api, principal: Principal, given: str, after: int, within_s: float) -> AsyncIterator[str]:
    api.streams[principal.account] += 1
    ends_s = api.clock.monotonic_s() + within_s
    asked_s, changes = api.clock.monotonic_s(), api.wakeups.account_changes
    try:
        yield ": from here on\n\n"
        while not api.stop.is_set():
            woken = api.wakeups.next()
            async with api.connection() as connection:
                found = await store.events_after(connection, after, principal.customer_id, AT_ONCE)
            if found:
                after = found[-1].id
                yield "".join(map(_said, found))
            now_s = api.clock.monotonic_s()
            if now_s >= ends_s:
                return
            if now_s >= asked_s + HEARTBEAT_S or changes != api.wakeups.account_changes:
                asked_s, changes = now_s, api.wakeups.account_changes
                if await api.accounts.look_up(given) is None:
                    return  # the key was revoked, or the session has ended
                yield ": still here\n\n"
            if len(found) < AT_ONCE:
                await api.wakeups.wait(woken, min(ends_s - now_s, HEARTBEAT_S))
            await asyncio.sleep(BREATH_S)
    finally:
        api.streams[principal.account] -= 1


def _said(event: store.Event) -> str:
    body = StateChanged(
        workload_id=event.workload_id,
        old_state=event.old_status,
        new_state=event.new_status,
        is_waiting=event.is_waiting,
        reason=event.reason,
        actor=event.actor,
        timestamp=event.occurred_at,
    )
    return f"id: {event.id}\nevent: workload.state.changed\ndata: {body.model_dump_json()}\n\n"
