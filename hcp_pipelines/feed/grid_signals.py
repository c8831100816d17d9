"""The feed's ear for the grid: registered with a demand response server, polled, registered again when it was lost.

Off unless `HCP_OPENADR_FILE` names where the platform is enrolled. What an event sets going is the desk's (`grid_events`); what
falls due of it is passed on twice a real second, whether or not the server is there.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psycopg
import structlog
from pydantic import SecretStr

from hcp_pipelines.domain.errors import ConfigError, HcpError, MarketError
from hcp_pipelines.feed import metrics
from hcp_pipelines.feed.enrolment import WORLD, Enrolment, load_enrolment
from hcp_pipelines.feed.grid_events import EventDesk
from hcp_pipelines.markets.breaker import Breaker
from hcp_pipelines.markets.openadr_events import Answer, GridEvent
from hcp_pipelines.runtime.process import ProcessContext

SOURCE = "openadr"
DUE_EVERY_S = 0.5
_WORLD_NAMES = {"2.0b": "openadr", "3.1": "openadr3"}
HEALTH_FAILURES = 5
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)  # Postgres: the same again may go well


class Node(Protocol):
    """An end node of either version."""

    @property
    def poll_s(self) -> float:
        """Real seconds that the server wants between two polls."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether to register anew."""
        ...

    async def register(self) -> None:
        """Register, and hear what stands."""
        ...

    async def poll(self) -> None:
        """Hear what is new."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


@dataclass
class GridSignals:
    """The task that listens; `make` gives a new node, unregistered."""

    context: ProcessContext
    enrolment: Enrolment
    desk: EventDesk
    make: Callable[["GridSignals"], Awaitable[Node]]
    breaker: Breaker = field(default_factory=Breaker)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger("feed").bind(source=SOURCE)
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Listen until it is cancelled."""
        try:
            await self._run()
        finally:
            self.desk.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_due())
            while True:
                try:
                    await self._listen()
                except (HcpError, psycopg.Error) as error:
                    await self._failed(error)
                except Exception as error:  # noqa: BLE001 - a defect in here must not end the feed
                    self._log.exception("source_defect")
                    await self._failed(HcpError(repr(error)))

    async def on_event(self, event: GridEvent) -> Answer:
        """The desk's answer, as soon as there is one: while Postgres is away nobody can say yes or no."""
        answer = await self._kept_answer(event)
        metrics.GRID_EVENTS.labels("in" if answer.is_in else "out").inc()
        self._log.info(
            "event_answered",
            event_id=event.event_id,
            modification=event.modification,
            programme=event.programme,
            is_in=answer.is_in,
            reason=answer.reason,
        )
        return answer

    async def standing(self) -> list[GridEvent]:
        """What the books have of events that are not over.

        Raises:
            HcpError: Postgres is away.
        """
        async with self._one_at_a_time:
            return await asyncio.to_thread(self.desk.standing)

    async def _kept_answer(self, event: GridEvent) -> Answer:
        """The desk's; again while Postgres is away, and never again for what lies in the event: others wait behind it."""
        while True:
            try:
                there_is = await asyncio.to_thread(self.desk.look, event)
                async with self._one_at_a_time:
                    return await asyncio.to_thread(self.desk.answer, event, there_is)
            except (HcpError, *AWAY) as error:
                await self._failed(error)
            except Exception as error:  # noqa: BLE001 - it is told to who asked, and counted
                self._log.exception("event_unusable", event_id=event.event_id)
                metrics.GRID_EVENTS.labels("unusable").inc()
                return Answer(False, f"it can't be used: {type(error).__name__}")

    def meters(self) -> dict[str, Callable[[], Awaitable[float]]]:
        """Watts at each enrolled facility's meter, by what the server calls it."""

        def meter(facility_id: str) -> Callable[[], Awaitable[float]]:
            async def read() -> float:
                return await asyncio.to_thread(self.desk.meter_w, facility_id)

            return read

        return {self.enrolment.resource_of(facility): meter(facility) for facility in self.enrolment.facilities}

    def vtn_url(self) -> str:
        """Where the server is; the simulated one's is in the world's ready file.

        Raises:
            MarketError: the world isn't ready, or has none.
        """
        if self.enrolment.vtn_url != WORLD:
            return self.enrolment.vtn_url
        ready_file: Path = self.context.settings.at("run", "world.json")
        try:
            return str(json.loads(ready_file.read_text())["urls"][_WORLD_NAMES[self.enrolment.protocol]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MarketError(f"{ready_file}: no demand response server ({error!r}); is the world up?") from error

    async def _listen(self) -> None:
        """One registration, from its beginning until it is lost."""
        node = await self.make(self)
        try:
            await node.register()
            self._log.info("registered", poll_s=node.poll_s)
            self._heard()
            while True:
                await asyncio.sleep(max(node.poll_s, self.enrolment.poll_s))
                try:
                    await node.poll()
                    self._heard()
                except MarketError as error:
                    if node.is_lost:
                        raise
                    await self._failed(error)
        finally:
            metrics.GRID_SERVER_UP.set(0)
            await node.close()

    def _heard(self) -> None:
        self.breaker.succeeded()
        metrics.GRID_SERVER_UP.set(1)
        metrics.POLLS.labels(SOURCE, "ok").inc()
        self.context.health[SOURCE] = ""

    async def _failed(self, error: HcpError | psycopg.Error) -> None:
        wait_s = self.breaker.failed()
        metrics.GRID_SERVER_UP.set(0)
        metrics.POLLS.labels(SOURCE, "failed").inc()
        if self.breaker.failures >= HEALTH_FAILURES:
            self.context.health[SOURCE] = f"{self.breaker.failures} failed polls in a row: {error}"
        if self.breaker.failures in (1, HEALTH_FAILURES) or self.breaker.failures % 50 == 0:
            self._log.warning("poll_failed", error=str(error), failures=self.breaker.failures)
        await asyncio.sleep(wait_s)

    async def _pass_due(self) -> None:
        is_told = False
        while True:
            try:
                async with self._one_at_a_time:
                    await asyncio.to_thread(self.desk.pass_due)
                is_told = False
            except Exception as error:  # noqa: BLE001 - nor must one in here
                if not is_told:
                    self._log.error("due_not_passed_on", error=repr(error))
                is_told = True
            await asyncio.sleep(DUE_EVERY_S)


def grid_signals(context: ProcessContext, path: Path) -> GridSignals:
    """What listens where the file says that the platform is enrolled.

    Raises:
        ConfigError: the file can't be used.
    """
    enrolment = load_enrolment(path)
    desk = EventDesk(context.settings, enrolment, context.clock)
    return GridSignals(context, enrolment, desk, _node_of(enrolment))


def _node_of(enrolment: Enrolment) -> Callable[[GridSignals], Awaitable[Node]]:
    """How a node of the enrolment's version is made; its libraries are imported here alone."""
    return _rest_node(enrolment) if enrolment.protocol == "3.1" else _polling_node(enrolment)


def _polling_node(enrolment: Enrolment) -> Callable[[GridSignals], Awaitable[Node]]:
    from hcp_pipelines.markets.openadr import Credentials, Ven

    secret = _read(enrolment.passphrase_file) if enrolment.passphrase_file else None
    credentials = Credentials(
        enrolment.certificate, enrolment.key, secret, enrolment.ca, enrolment.vtn_fingerprint, enrolment.sign
    )

    async def make(signals: GridSignals) -> Node:
        url = signals.vtn_url()
        return Ven(enrolment.ven_name, url, signals.on_event, signals.meters(), credentials, enrolment.report_s)

    return make


def _rest_node(enrolment: Enrolment) -> Callable[[GridSignals], Awaitable[Node]]:
    from hcp_pipelines.markets.openadr3 import RestVen
    from hcp_pipelines.markets.openadr3_server import Client

    path = enrolment.client_secret_file
    client_id, _, secret = _read(path).partition(":") if path else ("", "", "")
    if not client_id or not secret:
        raise ConfigError(f"client_secret_file {path}: one line CLIENT_ID:SECRET is needed")
    client = Client(client_id, SecretStr(secret), enrolment.ca)

    async def make(signals: GridSignals) -> Node:
        standing = await signals.standing()
        return RestVen(
            enrolment.ven_name,
            signals.vtn_url(),
            signals.on_event,
            signals.meters(),
            enrolment.programmes,
            client,
            standing,
            enrolment.report_s,
        )

    return make


def _read(path: Path) -> str:
    """The text of a file with a secret.

    Raises:
        ConfigError: it can't be read.
    """
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from error
