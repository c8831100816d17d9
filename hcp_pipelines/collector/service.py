"""The collector daemon: runs the copier's rounds in one thread, so that /healthz and signals never wait for the lake.

What a round does is in copier.
"""

import asyncio
import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.copier import HELD_BACK_S, Copier, tables
from hcp_pipelines.collector.switch_log import SwitchLog
from hcp_pipelines.collector.telemetry.service import Telemetry
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.process import ProcessContext

BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = 5.0
HEALTH_S = 1.0
DRAIN_WITHIN_S = 4.0  # of the 8 s that a process has for its stop


async def run_collector(context: ProcessContext) -> None:
    """Copy until `context.stop` is set, then once more what has come in since."""
    copier = Copier(context.settings, context.clock)
    for name in tables():
        metrics.LAG_SECONDS.labels(name).set_function(partial(copier.lag_s, name))
    with ThreadPoolExecutor(1, thread_name_prefix="copier") as thread:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(context, copier))
            group.create_task(Telemetry(context, may_begin=lambda: copier.is_open).run())
            if context.settings.switch_log == "on":
                group.create_task(SwitchLog(context, may_begin=lambda: copier.is_open).run())
            await _Loop(context, copier, thread).run()
            watch.cancel()
        await asyncio.get_running_loop().run_in_executor(thread, copier.close)


async def _watch(context: ProcessContext, copier: Copier) -> None:
    """Keep /healthz true while the copier works or hangs; after a stop, end what takes too long."""
    while not context.stop.is_set():
        context.health.update(copier.problems())
        await _pause(context, HEALTH_S)
    await asyncio.sleep(DRAIN_WITHIN_S)
    context.log.warning("stopped_with_uncopied_rows")
    copier.cancel()


class _Loop:
    def __init__(self, context: ProcessContext, copier: Copier, thread: ThreadPoolExecutor) -> None:
        self._context = context
        self._copier = copier
        self._thread = thread
        self._is_ready = False
        self._backoff_s = BACKOFF_FIRST_S
        self._logged = ""

    async def run(self) -> None:
        while not self._context.stop.is_set():
            await _pause(self._context, await self._round())
        await self._drain()

    async def _round(self) -> float:
        """One round; the real seconds to wait after it."""
        try:
            wait_s = await asyncio.get_running_loop().run_in_executor(self._thread, self._copier.round)
        except StorageError as error:
            return self._failed(str(error))
        self._succeeded()
        return wait_s

    async def _drain(self) -> None:
        """Copy all that was committed before the stop, while there is time; the watch ends a round that hangs.

        A round alone doesn't tell: it may end one that began before the stop and waited for a writer since.
        """
        stopped_s = self._context.clock.monotonic_s()
        while self._copier.is_open and self._copier.complete_s() < stopped_s:
            wait_s = await self._round()
            if self._context.clock.monotonic_s() >= stopped_s + DRAIN_WITHIN_S:
                return
            await asyncio.sleep(min(wait_s, HELD_BACK_S))

    def _succeeded(self) -> None:
        if self._logged:
            self._context.log.info("copying_again")
        self._logged, self._backoff_s = "", BACKOFF_FIRST_S
        if not self._is_ready:
            self._is_ready = True
            self._context.ready()

    def _failed(self, error: str) -> float:
        metrics.FAILURES.labels("copy").inc()
        if error != self._logged:
            self._context.log.warning("copy_failed", error=error)
        self._logged = error
        wait_s, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, BACKOFF_LAST_S)
        return wait_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter


async def _pause(context: ProcessContext, seconds: float) -> None:
    """Wait, or until the stop."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(context.stop.wait(), seconds)
