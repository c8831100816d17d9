"""A VEN of OpenADR 2.0b that polls: openleadr's client with deadlines, bounds, and our own loop around it.

openleadr goes on when a server is away, but tells nobody, and ignores a server that does not know it any more. So its steps are
called here one by one: each that fails is a MarketError, and after a few a new client registers anew. It is imported with this
module, 30 MB: import it only where a server is set.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import aiohttp
import openleadr
from openleadr.objects import SamplingRate

from hcp_pipelines.domain.errors import ConfigError, MarketError
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, event_of

CONNECT_WITHIN_S = 5.0
REPLY_WITHIN_S = 15.0
MAX_REPLY_BYTES = 4 * 1024 * 1024
MAX_REASON_CHARS = 200
LOST_AFTER = 3  # failed polls in a row
KEPT_EVENTS = 200  # beyond so many openleadr forgets those that are over
_FORGOTTEN = (452, 463)
_LOGGERS = ("openleadr", "apscheduler")

OnEvent = Callable[[GridEvent], Awaitable[Answer]]
Meter = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Credentials:
    """Files: our certificate and key (both or neither), who signed the server's, its fingerprint; whether messages are signed."""

    certificate: Path | None = None
    key: Path | None = None
    passphrase: str | None = None
    ca: Path | None = None
    vtn_fingerprint: str = ""
    sign: bool = True


class Ven:
    """One registered end node. `meters`: watts by resource, reported where the server asks for them.

    Every method that talks to the server raises MarketError when it can't.
    """

    def __init__(
        self,
        name: str,
        vtn_url: str,
        on_event: OnEvent,
        meters: Mapping[str, Meter],
        credentials: Credentials | None = None,
        report_s: float = 10.0,
    ) -> None:
        for logger in _LOGGERS:
            logging.getLogger(logger).setLevel(logging.CRITICAL)  # it says all it does, and each failure twice
        self._vtn_url = vtn_url
        self._on_event = on_event
        self._reasons: dict[str, str] = {}
        self._credentials = credentials or Credentials()
        self._code = 0
        self._is_answered = False
        self._moved = ""
        self._failures = 0
        self._defect: Exception | None = None
        self._client = self._made(name)
        for resource, meter in meters.items():
            self._report(resource, meter, report_s)

    @property
    def poll_s(self) -> float:
        """Real seconds that the server wants between two polls."""
        frequency: timedelta | None = self._client.poll_frequency
        return frequency.total_seconds() if frequency else 10.0

    async def register(self) -> None:
        """Register, offer reports, hear what stands.

        Raises:
            MarketError: the server does not answer, or does not take us.
            ConfigError: certificates can't be used.
        """
        self._client.loop = asyncio.get_running_loop()
        self._client.client_session = self._session()
        await self._asked(self._client.query_registration(), "query")
        await self._asked(self._client.create_party_registration(ven_id=self._client.ven_id), "registration")
        if not self._client.registration_id:
            raise MarketError(f"{self._vtn_url}: the server did not register {self._client.ven_name}")
        self._client.scheduler.start()
        await self._asked(self._client.register_reports(self._client.reports), "reports")
        if self._client.reports:
            self._client.report_queue_task = asyncio.create_task(self._client._report_queue_worker())
        await self._asked(self._client.sync_events(), "events")

    async def poll(self) -> None:
        """Ask once for what is new; events are answered before this returns.

        Raises:
            MarketError: no usable answer, or the server does not know us any more: make a new one.
        """
        try:
            await self._asked(self._client._poll(), "poll")
        except MarketError:
            self._failures += 1
            raise
        self._failures = 0
        if len(self._client.received_events) > KEPT_EVENTS:
            await self._client._event_cleanup()

    @property
    def is_lost(self) -> bool:
        """Whether to register anew: forgotten by the server, without an answer for some polls, or in a mess."""
        return self._defect is not None or self._code in _FORGOTTEN or self._failures >= LOST_AFTER

    async def close(self) -> None:
        """Let go of everything; what is registered stays so at the server. Idempotent."""
        if self._client.client_session is not None:
            await self._client.stop()

    def _made(self, name: str) -> Any:
        own = self._credentials
        try:
            client = openleadr.OpenADRClient(
                ven_name=name,
                vtn_url=self._vtn_url,
                cert=_text(own.certificate),
                key=_text(own.key),
                passphrase=own.passphrase,
                vtn_fingerprint=own.vtn_fingerprint or None,
                show_fingerprint=False,
                disable_signature=not own.sign,
            )
        except OSError as error:
            raise ConfigError(f"OpenADR certificate: {error}") from error
        client.add_handler("on_event", self._answer)
        client.add_handler("on_update_event", self._answer)
        client.add_hook("after_parse_xml", self._note)
        client.create_party_reregistration = self._forgotten
        write = client._create_message
        client._create_message = lambda kind, **payload: write(kind, **self._with_reasons(payload))
        return client

    def _session(self) -> aiohttp.ClientSession:
        """Bounded in time and size; the server's certificate is checked whether or not we show one."""
        own, connector = self._credentials, None
        if self._vtn_url.startswith("https:"):
            try:
                context = ssl.create_default_context(cafile=_text(own.ca))
                if own.certificate and own.key:
                    context.load_cert_chain(own.certificate, own.key, own.passphrase)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"OpenADR certificates can't be used: {error}") from error
            connector = aiohttp.TCPConnector(ssl=context)
        return aiohttp.ClientSession(
            connector=connector,
            headers={"content-type": "application/xml"},
            timeout=aiohttp.ClientTimeout(total=REPLY_WITHIN_S, sock_connect=CONNECT_WITHIN_S),
            response_class=_BoundedResponse,
            middlewares=(self._stay,),
            trust_env=False,
        )

    async def _stay(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Go nowhere else: what we say, and our certificate, are for this server alone."""
        response = await handler(request)
        if 300 <= response.status < 400:
            response.close()
            where = response.headers.get("location", "")[:MAX_REASON_CHARS]
            self._moved = f"status {response.status}, and a redirect ({where!r}) is not followed: set vtn_url anew"
            raise MarketError(self._moved)
        return response

    def _report(self, resource: str, meter: Meter, report_s: float) -> None:
        most = timedelta(hours=1)
        self._client.add_report(
            meter,
            resource_id=resource,
            report_specifier_id=f"power-{resource}",
            r_id=f"power-{resource}-w",
            measurement="RealPower",
            unit="W",
            sampling_rate=SamplingRate(min_period=timedelta(seconds=report_s), max_period=most, on_change=False),
            report_duration=most,
        )

    async def _asked(self, step: Awaitable[object], what: str) -> None:
        self._is_answered, self._code, self._moved = False, 0, ""
        try:
            await step
        except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:  # what it makes of a wrong reply
            raise MarketError(f"{self._vtn_url}: {what}: unusable reply ({type(error).__name__}: {error})") from error
        if not self._is_answered:
            raise MarketError(f"{self._vtn_url}: {what}: {self._moved or 'no answer, or none that is valid'}")
        if self._code in _FORGOTTEN:
            raise MarketError(f"{self._vtn_url}: {what}: {self._code}, it does not know us")

    async def _note(self, _name: str, payload: Mapping[str, Any]) -> None:
        """The first reply of a step is the one that counts; others are to what it says itself meanwhile."""
        if not self._is_answered:
            self._is_answered = True
            self._code = int((payload.get("response") or {}).get("response_code") or 0)

    async def _forgotten(self) -> None:
        """The server wants us to register again: a new client does."""
        self._code = _FORGOTTEN[-1]

    async def _answer(self, told: Mapping[str, Any]) -> str:
        """What the server is told of an event; one that can't be read is answered with out.

        Where our handler fails nothing must be said, and openleadr would say out: what it says next is stopped.
        """
        event_id = str((told.get("event_descriptor") or {}).get("event_id"))
        try:
            event = event_of(told)
        except MarketError as error:
            self._reasons[event_id] = str(error)[:MAX_REASON_CHARS]
            return "optOut"
        try:
            answer = await self._on_event(event)
        except Exception as error:
            self._defect = error
            raise
        self._reasons[event_id] = answer.reason[:MAX_REASON_CHARS]
        return "optIn" if answer.is_in else "optOut"

    def _with_reasons(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The same message, with why we are out as the description of each response."""
        if self._defect is not None:
            raise MarketError(f"events can't be answered: {self._defect!r}") from self._defect
        for response in payload.get("event_responses") or ():
            reason = self._reasons.pop(str(response["event_id"]), "")
            if response["opt_type"] == "optOut" and reason:
                response["response_description"] = escape(reason)  # it escapes nothing itself
        return payload


class _BoundedResponse(aiohttp.ClientResponse):
    """A reply that is read no further than its limit, and has no document type."""

    async def read(self) -> bytes:
        """The body.

        Raises:
            MarketError: it is too large, or defines entities.
        """
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    self.close()
                    raise MarketError(f"{self.url}: more than {MAX_REPLY_BYTES} bytes")
            if b"<!DOCTYPE" in body.upper():
                raise MarketError(f"{self.url}: a document type, which no message has")
            self._body = bytes(body)
        return self._body


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
