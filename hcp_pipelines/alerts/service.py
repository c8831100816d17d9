"""The loop of the alerter: look, bring the table in line, tell the sinks; and the heartbeat whose silence is the last alert."""

import asyncio
import json
from collections import Counter
from typing import Any

import psycopg

from hcp_pipelines.alerts import metrics, store
from hcp_pipelines.alerts.condition import Condition
from hcp_pipelines.alerts.conditions import find_conditions, has_started
from hcp_pipelines.alerts.sinks import Sink, SinkError, check_url, make_sinks, post
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.endless import endless
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

LOOK_EACH_S = 5.0
START_WITHIN_S = 180.0  # what is not ready by then is wrong
LOOKS_TO_OPEN = 2  # a condition must be there twice, or be critical
UNKNOWN = Condition(
    "postgres",
    "critical",
    "postgres",
    "Postgres can't be asked: half of the platform's state is unknown",
    "see its log",
)


async def run_alerts(context: ProcessContext) -> None:
    """Work until told to stop."""
    alerter = Alerter(context)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job) for job in (endless(alerter.watch()), alerter.beat())]
        context.ready()
        await context.stop.wait()
        for task in tasks:
            task.cancel()


class Alerter:
    """Watches one platform."""

    def __init__(self, context: ProcessContext) -> None:
        self._context, self._settings = context, context.settings
        self._sinks: list[Sink] = make_sinks(self._settings)
        self._seen: Counter[str] = Counter()
        self._looked_at_s = float("-inf")
        self._has_started, self._begun_at_s = False, context.clock.monotonic_s()
        self._open = 0
        if self._settings.alert_heartbeat_url is not None:
            check_url("HCP_ALERT_HEARTBEAT_URL", self._settings.alert_heartbeat_url.get_secret_value())

    async def watch(self) -> None:
        """Look again and again; what can't be looked at is told by the heartbeat's silence."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EACH_S)

    async def look(self) -> None:
        """One look, and what follows from it."""
        if self._is_starting():
            return
        try:
            found = await asyncio.to_thread(find_conditions, self._settings)
            self._open = await asyncio.to_thread(self._sync, self._settled(found))
            for sink in self._sinks:
                await self._tell(sink)
        except (psycopg.Error, StorageError, OSError) as error:
            self._context.health["postgres"] = str(error).strip()
            await self._tell_without_postgres()
        else:
            self._looked_at_s = self._context.clock.monotonic_s()
            self._context.health["postgres"] = ""
            self._seen.pop(UNKNOWN.key, None)
        metrics.OPEN.set(self._open)

    async def beat(self) -> None:
        """The dead man's switch: sent while this process can look; when it stops, whoever listens raises the alarm."""
        url = self._settings.alert_heartbeat_url
        if url is not None:
            await endless(self._beat_on(url.get_secret_value()))

    async def _beat_on(self, url: str) -> None:
        while True:
            silent_s = self._context.clock.monotonic_s() - self._looked_at_s
            if silent_s < 4 * LOOK_EACH_S:
                document = {"platform": self._settings.alert_platform, "open_alerts": self._open}
                await self._send_beat(url, json.dumps(document).encode())
            await asyncio.sleep(self._settings.alert_heartbeat_s)

    async def _send_beat(self, url: str, body: bytes) -> None:
        try:
            await post(url, body, {"content-type": "application/json"})
        except SinkError as error:
            metrics.DELIVERIES.labels("heartbeat", "failed").inc()
            self._context.health["heartbeat"] = str(error)
        else:
            metrics.DELIVERIES.labels("heartbeat", "delivered").inc()
            self._context.health["heartbeat"] = ""

    def _is_starting(self) -> bool:
        waited_s = self._context.clock.monotonic_s() - self._begun_at_s
        self._has_started |= has_started(self._settings) or waited_s > START_WITHIN_S
        return not self._has_started

    def _settled(self, found: list[Condition]) -> list[Condition]:
        """Those that were there at the look before as well, and critical ones at once."""
        keys = {condition.key for condition in found}
        self._seen = Counter({key: times for key, times in self._seen.items() if key in keys})
        self._seen.update(keys)
        return [c for c in found if c.severity == "critical" or self._seen[c.key] >= LOOKS_TO_OPEN]

    def _sync(self, found: list[Condition]) -> int:
        with connect(self._settings, Role.OPERATOR) as connection:
            return store.sync(connection, found, [sink.name for sink in self._sinks], self._settings.alert_repeat_s)

    async def _tell(self, sink: Sink) -> None:
        """Everything that is due; the first failure ends the round, the others wait for their turn."""
        for notice in await asyncio.to_thread(self._due, sink.name):
            error = await self._try(sink, notice)
            await asyncio.to_thread(self._note, notice, error)
            self._context.health[sink.name] = error
            if error:
                return

    async def _try(self, sink: Sink, notice: store.Notice) -> str:
        try:
            await sink.send(notice)
        except SinkError as error:
            metrics.DELIVERIES.labels(sink.name, "failed").inc()
            self._context.log.warning("an alert was not taken", sink=sink.name, alert=notice.key, error=str(error))
            return str(error)
        metrics.DELIVERIES.labels(sink.name, "delivered").inc()
        self._context.log.info("alert told", sink=sink.name, alert=notice.key, kind=notice.event)
        return ""

    async def _tell_without_postgres(self) -> None:
        """Nothing can be kept, so this one is told from memory, once each outage, at the second look."""
        self._seen[UNKNOWN.key] += 1
        if self._seen[UNKNOWN.key] != LOOKS_TO_OPEN:
            return
        now = self._context.clock.real_now()
        notice = store.Notice(
            0, "opened", 0, 0, UNKNOWN.key, UNKNOWN.severity, UNKNOWN.subject, UNKNOWN.summary, UNKNOWN.remedy, now,
            None, None,
        )  # fmt: skip
        for sink in self._sinks:
            await self._try(sink, notice)

    def _due(self, sink: str) -> list[store.Notice]:
        with connect(self._settings, Role.OPERATOR) as connection:
            return store.due(connection, sink)

    def _note(self, notice: store.Notice, error: str) -> None:
        with connect(self._settings, Role.OPERATOR) as connection:
            _note(connection, notice, error)


def _note(connection: "psycopg.Connection[Any]", notice: store.Notice, error: str) -> None:
    if error:
        store.failed(connection, notice, error)
    else:
        store.delivered(connection, notice)


def check_settings(settings: Settings) -> None:
    """Whether the sinks named can be used.

    Raises:
        ConfigError: the setting and what it lacks.
    """
    make_sinks(settings)
    if settings.alert_heartbeat_url is not None:
        check_url("HCP_ALERT_HEARTBEAT_URL", settings.alert_heartbeat_url.get_secret_value())
