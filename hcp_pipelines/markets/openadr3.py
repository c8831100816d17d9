"""A VEN of OpenADR 3.1: polls events over REST with a token, and reports what meters read while an event lasts.

3.1 knows no in or out: an event that can't be met is told by nothing but our books. A changed event has another
`modificationDateTime`; one that is cancelled is gone.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import structlog
from pydantic import SecretStr

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, HcpError, MarketError
from hcp_pipelines.markets.http import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, MarketHttp
from hcp_pipelines.markets.openadr3_events import UnreadableError, grid_event, rest_event
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, Interval, is_confidential
from hcp_pipelines.markets.tokens import TokenAuth

PAGE: Final = 50
MAX_PAGES: Final = 20
LOST_AFTER: Final = 3
W_PER_KW: Final = 1000.0
_log = structlog.get_logger("markets.openadr3")
OnEvent = Callable[[GridEvent], Awaitable[Answer]]
Meter = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Client:
    """Who we are there: id and secret, and who signed the server's certificate (else the system's authorities)."""

    client_id: str
    secret: SecretStr
    ca: Path | None = None


@dataclass
class _Known:
    """An event as it was last answered."""

    event: GridEvent
    is_in: bool
    wants_reports: bool = False
    reported_at_s: float = float("-inf")


class RestVen:
    """One end node. `standing`: the events that were answered before and are not over, so that one that has gone is noticed."""

    def __init__(
        self,
        name: str,
        base_url: str,
        on_event: OnEvent,
        meters: Mapping[str, Meter],
        client: Client,
        standing: Iterable[GridEvent] = (),
        report_s: float = 10.0,
    ) -> None:
        self._name, self._base_url = name, base_url.rstrip("/")
        self._on_event, self._meters, self._client = on_event, meters, client
        self._known = {event.event_id: _Known(event, is_in=True) for event in standing}
        self._report_s = report_s
        self._clock = SystemClock()  # the wall's: a server tells its times
        self._programmes: dict[str, str] = {}
        self._unreadable: set[str] = set()
        self._http: MarketHttp | None = None
        self._poster: httpx.AsyncClient | None = None
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
        if not is_confidential(self._base_url):
            raise ConfigError(f"{self._base_url}: a secret would go in clear: https://, or http://127.0.0.1")
        auth = TokenAuth(await self._token_url(), self._form(), self._clock)
        self._http = MarketHttp(self._base_url, auth=auth, transport=self._transport())
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._poster = httpx.AsyncClient(auth=auth, timeout=timeout, transport=self._transport(), trust_env=False)
        if not await self._listed("/vens", {"venName": self._name}):
            await self._post("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": self._name})
        await self.poll()

    async def poll(self) -> None:
        """Hear what is new, changed or gone; report on what lasts.

        Raises:
            MarketError: no usable answer.
        """
        try:
            await self._hear()
        except MarketError:
            self._failures += 1
            raise
        self._failures = 0
        await self._report()

    async def close(self) -> None:
        """Let go of everything. Idempotent."""
        if self._http is not None:
            await self._http.close()
        if self._poster is not None:
            await self._poster.aclose()

    async def _hear(self) -> None:
        now, told = self._clock.real_now(), {}
        for resource in self._meters:
            for each in await self._listed("/events", {"targets": resource}):
                told[str(each.get("id")) if isinstance(each, dict) else ""] = each
        for event_id, each in told.items():
            try:
                await self._take(each, now)
            except UnreadableError as error:
                if event_id not in self._unreadable:
                    _log.warning("event_unreadable", event_id=event_id[:128], error=str(error))
                self._unreadable.add(event_id)
        self._unreadable &= told.keys()
        for event_id, known in list(self._known.items()):
            ends_at = known.event.end_at
            if ends_at is not None and ends_at <= now:
                del self._known[event_id]
            elif event_id not in told:
                await self._on_event(_gone(known.event, now))
                del self._known[event_id]

    async def _take(self, told: object, now: datetime) -> None:
        """One event of a list: answered where it is new or changed and not over."""
        read = rest_event(told)
        event = grid_event(read, await self._programme(read.programID), now, list(self._meters))
        known = self._known.get(event.event_id)
        if known is not None and known.event.modification == event.modification:
            known.event, known.wants_reports = event, bool(read.reportDescriptors)
        elif event.end_at is None or event.end_at > now:
            answer = await self._on_event(event)
            self._known[event.event_id] = _Known(event, answer.is_in, bool(read.reportDescriptors))

    async def _programme(self, programme_id: str) -> str:
        """A programme's name."""
        if programme_id not in self._programmes:
            reply = await self._get(f"/programs/{programme_id}", {})
            name = reply.get("programName") if isinstance(reply, dict) else None
            if not isinstance(name, str):
                raise MarketError(f"{self._base_url}: program {programme_id[:60]} has no programName")
            self._programmes[programme_id] = name
        return self._programmes[programme_id]

    async def _report(self) -> None:
        """On events that ask for it; what is not taken is sent again with the next poll, and costs nothing else."""
        now_s, now = self._clock.monotonic_s(), self._clock.real_now()
        for known in self._known.values():
            event = known.event
            lasts = event.start_at <= now and (event.end_at is None or now < event.end_at)
            is_asked = known.is_in and known.wants_reports and lasts
            if is_asked and now_s - known.reported_at_s >= self._report_s:
                try:
                    await self._post("/reports", await self._usage(event, now))
                except HcpError as error:
                    _log.warning("report_not_taken", event_id=event.event_id, error=str(error))
                    return
                known.reported_at_s = now_s

    async def _usage(self, event: GridEvent, now: datetime) -> dict[str, Any]:
        """What the meters of an event's resources read now, kW."""
        wanted = event.resources or tuple(self._meters)
        period = {"start": now.isoformat(), "duration": f"PT{round(self._report_s)}S"}
        resources = []
        for resource in wanted:
            payload = {"type": "DEMAND", "values": [await self._meters[resource]() / W_PER_KW]}
            intervals = [{"id": 0, "payloads": [payload]}]
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

    async def _listed(self, path: str, query: Mapping[str, str]) -> list[Any]:
        """All objects of a list, page by page.

        Raises:
            MarketError: a page is no list, or there is no end to them.
        """
        found: list[Any] = []
        for page in range(MAX_PAGES):
            body = await self._get(path, {**query, "skip": page * PAGE, "limit": PAGE})
            if not isinstance(body, list):
                raise MarketError(f"{self._base_url}{path}: not a list")
            found += body
            if len(body) < PAGE:
                return found
        raise MarketError(f"{self._base_url}{path}: more than {MAX_PAGES * PAGE} objects")

    async def _get(self, path: str, query: Mapping[str, str | int]) -> Any:
        assert self._http is not None
        return (await self._http.get_json(path, query)).body

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        """Send an object.

        Raises:
            MarketError: it was not taken.
        """
        assert self._poster is not None
        url = self._base_url + path
        try:
            async with self._poster.stream("POST", url, json=body) as response:
                status = response.status_code
        except httpx.HTTPError as error:
            raise MarketError(f"{url}: {type(error).__name__}: {error}") from error
        if status not in (httpx.codes.CREATED, httpx.codes.OK):
            raise MarketError(f"{url}: status {status}, what was sent was not taken")

    async def _token_url(self) -> str:
        """Where a token is handed out: over TLS, or, by a server on this machine, there.

        Raises:
            MarketError: the server says none, or one that a secret may not be sent to.
        """
        http = MarketHttp(self._base_url, transport=self._transport())
        try:
            body = (await http.get_json("/auth/server")).body
        finally:
            await http.close()
        url = body.get("tokenURL") if isinstance(body, dict) else None
        is_local = self._base_url.startswith("http://")
        if not isinstance(url, str) or not is_confidential(url) or (url.startswith("http://") and not is_local):
            raise MarketError(f"{self._base_url}/auth/server: no tokenURL that a secret may be sent to: {url!s:.200}")
        return url

    def _form(self) -> dict[str, str | SecretStr]:
        who = self._client
        return {"grant_type": "client_credentials", "client_id": who.client_id, "client_secret": who.secret}

    def _transport(self) -> httpx.AsyncHTTPTransport:
        try:
            return httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=_text(self._client.ca)))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"OpenADR: authorities {self._client.ca} can't be used: {error}") from error


def _gone(event: GridEvent, now: datetime) -> GridEvent:
    """The event's cancellation, from now on."""
    number = max(event.modification + 1, round(now.timestamp() * 1000))
    until = event.end_at or now + timedelta(seconds=1)
    interval = Interval(min(event.start_at, now), until.astimezone(UTC), 0.0)
    return GridEvent(
        event.event_id, number, event.programme, event.signal, (interval,), event.resources, is_cancelled=True
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
