"""A VEN of OpenADR 3.1: polls events over REST with a token, and reports what meters read while an event lasts.

3.1 knows no in or out: an event that can't be met is told by nothing but our books. A changed event has another
`modificationDateTime`; one that is cancelled is gone, which the server is asked: a list that lacks it says nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import HcpError, MarketError
from hcp_pipelines.markets.openadr3_events import (
    RestEvent,
    UnreadableError,
    grid_event,
    meant_resources,
    programme_of,
    rest_event,
)
from hcp_pipelines.markets.openadr3_server import Client, RestServer
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, Interval

LOST_AFTER: Final = 3
READ_AT_ONCE: Final = 3
W_PER_KW: Final = 1000.0
_log = structlog.get_logger("markets.openadr3")
OnEvent = Callable[[GridEvent], Awaitable[Answer]]
Meter = Callable[[], Awaitable[float]]


@dataclass
class _Known:
    """An event as it was last answered."""

    event: GridEvent
    is_in: bool
    wants_reports: bool = False
    reported_at_s: float = float("-inf")

    def is_due(self, now: datetime, now_s: float, report_s: float) -> bool:
        """Whether a report on it is to be sent."""
        lasts = self.event.start_at <= now and (self.event.end_at is None or now < self.event.end_at)
        return self.is_in and self.wants_reports and lasts and now_s - self.reported_at_s >= report_s


class RestVen:
    """One end node, of `programmes` by name.

    `meters`: watts by resource. `standing`: the events that were answered before and are not over, so that one that has gone is
    noticed.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        on_event: OnEvent,
        meters: Mapping[str, Meter],
        programmes: Collection[str],
        client: Client,
        standing: Iterable[GridEvent] = (),
        report_s: float = 10.0,
    ) -> None:
        self._name = name
        self._on_event, self._meters, self._programmes = on_event, meters, programmes
        self._known = {event.event_id: _Known(event, is_in=True) for event in standing}
        self._report_s = report_s
        self._clock = SystemClock()  # the wall's: a server tells its times
        self._server = RestServer(base_url, client, self._clock)
        self._groups = frozenset({name})
        self._troubles: set[tuple[str, str]] = set()
        self._told_of: set[tuple[str, str]] = set()
        self._silent: set[str] = set()
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._failures = 0
        self.poll_s = 0.0  # the server says nothing of it

    @property
    def is_lost(self) -> bool:
        """Whether to begin anew: without an answer for some polls."""
        return self._failures >= LOST_AFTER

    async def register(self) -> None:
        """Log in, see that there is a ven of ours, hear what stands.

        Raises:
            MarketError: the server does not answer, or does not take us.
            ConfigError: the authorities' file can't be used, or the server's address is a plain one.
        """
        await self._server.log_in()
        listed = await self._server.listed("/vens", {"venName": self._name})
        own = [each for each in listed if isinstance(each, dict) and each.get("venName") == self._name]
        if not own:
            await self._server.post("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": self._name})
        groups = [group for each in own for group in each.get("targets") or () if isinstance(group, str)]
        self._groups = frozenset({self._name, *groups})
        await self.poll()

    async def poll(self) -> None:
        """Hear what is new, changed or gone; report on what lasts.

        Raises:
            MarketError: no usable answer.
        """
        self._told_of, self._troubles = self._troubles, set()
        try:
            await self._hear()
        except MarketError:
            self._failures += 1
            raise
        self._failures = 0
        await self._report()

    async def close(self) -> None:
        """Let go of everything. Idempotent."""
        await self._server.close()

    async def _hear(self) -> None:
        now = self._clock.real_now()
        programmes = await self._enrolled()
        told, unheard = await self._told(programmes)
        for event_id, each in told.items():
            try:
                await self._take(rest_event(each), programmes, now)
            except UnreadableError as error:
                self._trouble("event_unreadable", event_id, error)
        for event_id, known in list(self._known.items()):
            is_missed = event_id not in told and known.event.programme not in unheard
            if is_missed and not self._is_over(known) and await self._has_gone(event_id) and not self._is_over(known):
                await self._end(event_id, self._clock.real_now())
            elif self._is_over(known):
                del self._known[event_id]

    def _is_over(self, known: _Known) -> bool:
        """By now: what ends while a server is asked is told no more, and was not cancelled."""
        ends_at = known.event.end_at
        return ends_at is not None and ends_at <= self._clock.real_now()

    async def _enrolled(self) -> dict[str, str]:
        """Names of the programmes that are ours and that there are now, by id."""
        found = {}
        for each in await self._server.listed("/programs", {}):
            try:
                programme_id, name = programme_of(each)
            except UnreadableError as error:
                self._trouble("programme_unreadable", _id_of(each), error)
            else:
                if name in self._programmes:
                    found[programme_id] = name
        for name in sorted(set(self._programmes) - set(found.values())):
            self._trouble(
                "programme_not_there", name, MarketError(f"the server has no programme {name}: nothing is heard")
            )
        return found

    async def _told(self, programmes: Mapping[str, str]) -> tuple[dict[str, object], set[str]]:
        """Events by id; and the programmes, by name, whose events could not be had, which costs the others nothing.

        Raises:
            MarketError: none could be.
        """
        told: dict[str, object] = {}
        unheard, failed = set(), 0
        for programme_id, name in programmes.items():
            try:
                for each in await self._server.listed("/events", {"programID": programme_id}):
                    told[_id_of(each)] = each
            except MarketError as error:
                self._trouble("programme_unheard", programme_id, error)
                unheard.add(name)
                failed += 1
                if failed == len(programmes):
                    raise
        return told, unheard

    async def _take(self, read: RestEvent, programmes: Mapping[str, str], now: datetime) -> None:
        """One event of a list: answered where it is ours, new or changed, and not over."""
        programme = programmes.get(read.programID)
        resources = meant_resources(read, self._meters, self._groups) if programme is not None else None
        if programme is None or resources is None:
            if read.id in self._known:
                await self._end(read.id, now)
            return
        event = grid_event(read, programme, now, resources)
        known = self._known.get(event.event_id)
        if known is not None and known.event.modification == event.modification:
            known.event, known.wants_reports = event, bool(read.reportDescriptors)
        elif event.end_at is None or event.end_at > now:
            answer = await self._on_event(event)
            self._known[event.event_id] = _Known(event, answer.is_in, bool(read.reportDescriptors))

    async def _has_gone(self, event_id: str) -> bool:
        """Whether the server says that there is no such event; as long as it says nothing, there is."""
        try:
            return not await self._server.is_there(f"/events/{quote(event_id, safe='')}")
        except MarketError as error:
            self._trouble("event_unheard", event_id, error)
            return False

    async def _end(self, event_id: str, now: datetime) -> None:
        await self._on_event(_gone(self._known[event_id].event, now))
        del self._known[event_id]

    def _trouble(self, what: str, whose: str, error: MarketError) -> None:
        """Tell it, once as long as it lasts."""
        if (what, whose) not in self._told_of | self._troubles:
            _log.warning(what, id=ascii(whose[:128]), error=str(error))
        self._troubles.add((what, whose))

    async def _report(self) -> None:
        """On events that ask for it; what is not taken is sent again with the next poll, and costs nothing else."""
        now_s, now = self._clock.monotonic_s(), self._clock.real_now()
        due = [known for known in self._known.values() if known.is_due(now, now_s, self._report_s)]
        read_kw = await self._read_kw({resource for known in due for resource in self._resources(known.event)})
        for known in due:
            shares_kw = {name: read_kw[name] for name in self._resources(known.event) if name in read_kw}
            if not shares_kw:
                continue
            try:
                await self._server.post("/reports", self._usage(known.event, shares_kw, now))
            except MarketError as error:
                _log.warning("report_not_taken", event_id=known.event.event_id, error=str(error))
            else:
                known.reported_at_s = now_s

    def _resources(self, event: GridEvent) -> Sequence[str]:
        return event.resources or tuple(self._meters)

    async def _read_kw(self, resources: Collection[str]) -> dict[str, float]:
        """What meters read now, by resource; one that is silent is left out, and told once."""

        async def read(resource: str) -> float | None:
            try:
                async with self._reading:
                    kw = await self._meters[resource]() / W_PER_KW
            except HcpError as error:
                if resource not in self._silent:
                    _log.warning("meter_silent", resource=resource, error=str(error))
                self._silent.add(resource)
                return None
            self._silent.discard(resource)
            return kw

        named = sorted(resources)
        found = zip(named, await asyncio.gather(*map(read, named)), strict=True)
        return {resource: kw for resource, kw in found if kw is not None}

    def _usage(self, event: GridEvent, shares_kw: Mapping[str, float], now: datetime) -> dict[str, Any]:
        """A report of kW by resource."""
        period = {"start": now.isoformat(), "duration": f"PT{round(self._report_s)}S"}
        resources = []
        for resource, kw in shares_kw.items():
            intervals = [{"id": 0, "payloads": [{"type": "DEMAND", "values": [kw]}]}]
            resources.append({"resourceName": resource, "intervalPeriod": period, "intervals": intervals})
        descriptor = {
            "objectType": "REPORT_PAYLOAD_DESCRIPTOR",
            "payloadType": "DEMAND",
            "units": "KW",
            "readingType": "DIRECT_READ",
        }
        return {
            "eventID": event.event_id,
            "clientName": self._name,
            "reportName": f"{self._name} {event.event_id}"[:128],
            "payloadDescriptors": [descriptor],
            "resources": resources,
        }


def _id_of(told: object) -> str:
    """What an object of a list calls itself; empty where it does not."""
    return str(told.get("id")) if isinstance(told, dict) else ""


def _gone(event: GridEvent, now: datetime) -> GridEvent:
    """The event's cancellation, from now on."""
    number = max(event.modification + 1, round(now.timestamp() * 1000))
    until = event.end_at or now + timedelta(seconds=1)
    interval = Interval(min(event.start_at, now), until.astimezone(UTC), 0.0)
    return GridEvent(
        event.event_id, number, event.programme, event.signal, (interval,), event.resources, is_cancelled=True
    )
