"""One stream of server-sent events: what was, by pages; then what comes, from the fan-out; a comment now and then.

The order of events is that of commits, in which ids may go back: what both the last page and the fan-out tell is known by its id.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from hcp_pipelines.api.fanout import AT_ONCE, Place
from hcp_pipelines.api.principals import Principal
from hcp_pipelines.api.routes.workload_shapes import StateChanged
from hcp_pipelines.api.state import Api
from hcp_pipelines.workloads import store

HEARTBEAT_S = 5.0
LATE = ": you read too slowly, and are left: go on behind Last-Event-ID\n\n"


@dataclass
class Stream:
    """Of one who asks, from behind an event on, for so long."""

    api: Api
    principal: Principal
    given: str  # the key or token, checked anew at each comment
    after: int
    within_s: float
    _seen: set[int] = field(default_factory=set)

    async def told(self) -> AsyncGenerator[str, None]:
        """The stream's text, until its time, the key, the process or the reader's patience ends."""
        ends_s = self.api.clock.monotonic_s() + self.within_s
        yield f": from here on\nid: {self.after}\n\n"  # who hears nothing else may go on from here, too
        while len(page := await self._page()) >= AT_ONCE:
            yield _text(page)
        yield _text(page)
        place = await self._joined()
        try:
            yield _text(await self._page_beside())
            async for text in self._live(place, ends_s):
                yield text
        finally:
            self.api.fanout.leave(place)

    async def _live(self, place: Place, ends_s: float) -> AsyncGenerator[str, None]:
        asked_s = self.api.clock.monotonic_s()
        while not self.api.stop.is_set():
            heard = [event for event in place.events if event.id not in self._seen]
            place.events.clear()
            if heard:
                yield _text(heard)
            now_s = self.api.clock.monotonic_s()
            if place.is_late:
                yield LATE
                return
            if now_s >= ends_s:
                return
            if now_s >= asked_s + HEARTBEAT_S or place.is_doubtful:
                asked_s = now_s
                if not await self._is_still_known(place):
                    return
                yield ": still here\n\n"
            await place.wait(min(ends_s - now_s, HEARTBEAT_S))

    async def _joined(self) -> Place:
        ids = {f"users/{self.principal.user_id}", f"api_keys/{self.principal.key_id}"}
        return await self.api.fanout.join(self.principal.customer_id, frozenset(ids))

    async def _page(self) -> list[store.Event]:
        async with self.api.connection() as connection:
            found = await store.events_after(connection, self.after, self.principal.customer_id, AT_ONCE)
        if found:
            self.after = found[-1].id
        return found

    async def _page_beside(self) -> list[store.Event]:
        """What has come between the last page and the place; the place may tell some of it, too."""
        found: list[store.Event] = []
        while len(page := await self._page()) >= AT_ONCE:
            found += page
        found += page
        self._seen = {event.id for event in found}
        return found

    async def _is_still_known(self, place: Place) -> bool:
        """Whether the key or token still opens something; asked where the account has changed, else remembered for a moment."""
        is_changed, place.is_doubtful = place.is_doubtful, False
        known = None if is_changed else self.api.accounts.remembered(self.given)
        return (known or await self.api.accounts.look_up(self.given)) is not None


def _text(events: Sequence[store.Event]) -> str:
    return "".join(map(_said, events))


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
