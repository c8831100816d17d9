"""State changes of workloads as server-sent events; `Last-Event-ID` goes on where a connection broke, and loses none."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from hcp_pipelines.api.principals import Everybody, bearer_of
from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.routes.workload_shapes import StateChanged
from hcp_pipelines.api.state import MOST_STREAMS as MOST
from hcp_pipelines.api.state import MOST_STREAMS_OF_ONE as MOST_OF_ONE
from hcp_pipelines.api.state import api_of
from hcp_pipelines.api.streams import Stream

router = APIRouter(prefix="/api/v1/workloads", tags=["workloads"])
LONGEST_S = 3600
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
    if not api.streams.take(principal.account):
        raise ProblemError(
            429, f"an account has at most {MOST_OF_ONE} streams, all together {MOST}", {"Retry-After": "5"}
        )
    try:
        after = last_event_id if last_event_id is not None else await api.last_event()
    except BaseException:
        api.streams.give_back(principal.account)
        raise
    given = bearer_of(request.headers["authorization"]) or ""
    stream = Stream(api, principal, given, after, within_s)
    return _Placed(stream, lambda: api.streams.give_back(principal.account))


class _Placed(StreamingResponse):
    """A stream that gives its place back however it ends, begun or not."""

    def __init__(self, stream: Stream, give_back: Callable[[], None]) -> None:
        self._told, self._give_back = stream.told(), give_back
        super().__init__(self._told, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._give_back()
            await self._told.aclose()
