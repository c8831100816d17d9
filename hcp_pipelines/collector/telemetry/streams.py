"""One facility's stream from its gateway: opened after what is stored, received, acknowledged when it is in the lake.

What makes no sense is refused with a reason, counted and let go of; what is of a generation that the inventory doesn't know, or
numbered by a clock far ahead, ends the stream: the gateway keeps it. One that sends beyond its window is read no further.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import psycopg
import structlog

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.telemetry.intake import Intake
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.wire import telemetry_v1_pb2 as pb
from hcp_pipelines.wire.channels import MESSAGE_MAX_BYTES, ClientTls, open_channel
from hcp_pipelines.wire.telemetry import METHOD, SERVICE, Part, Sample, decode_sample, seq_of

AGAIN_FIRST_S, AGAIN_LAST_S = 0.5, 5.0
SILENT_AFTER_S = 30.0
SHOWN = 300
EARLY_S = 3600.0  # ahead of this process's clocks: more is a clock that is wrong, and retention goes by instants
AHEAD_MS = 10**9  # a number so far above the present millisecond would stand in the way of all that are right, for days
SAMPLES_PER_S, SAMPLES_AT_ONCE = 20.0, 400.0  # taken of one facility: it makes one a second, the rest is catching up
OPTIONS = (("grpc.max_reconnect_backoff_ms", 1000),)

PartsOf = Callable[[int], Awaitable[tuple[Part, ...]]]  # of a generation of the facility
Call = grpc.aio.StreamStreamCall[Any, Any]


class UnknownGenerationError(HcpError):
    """A sample is of slots that the inventory doesn't know."""


class FutureSeqError(HcpError):
    """A sample's number is far above what its clock could have begun with."""


class FacilityStream:
    """`run` until cancelled; `stored` says how far the facility is in the lake."""

    def __init__(
        self,
        facility_id: str,
        address: str,
        tls: ClientTls | None,
        intake: Intake,
        parts_of: PartsOf,
        clock: SystemClock,
        window_bytes: int,
    ) -> None:
        self.facility_id, self.address = facility_id, address
        self._tls, self._intake, self._parts_of, self._clock = tls, intake, parts_of, clock
        self._window_bytes = window_bytes
        self._stored = self._received = self._refused = 0
        self._has_stored, self._has_room = asyncio.Event(), asyncio.Event()
        self._held: deque[tuple[int, int]] = deque()  # seq and bytes of what has come and is not stored
        self._parts: dict[int, tuple[Part, ...]] = {}
        self._heard_at_s = self._paced_at_s = clock.monotonic_s()
        self._spare = SAMPLES_AT_ONCE
        self.reason = ""
        self.shed = 0  # samples that the gateway has given up since it began
        self._log = structlog.get_logger("collector").bind(facility_id=facility_id)

    @property
    def problem(self) -> str:
        """Why no telemetry comes; empty while some does."""
        silent_s = self._clock.monotonic_s() - self._heard_at_s
        return (
            f"{self.facility_id}: none for {silent_s:.0f} s {self.reason}".strip() if silent_s > SILENT_AFTER_S else ""
        )

    def stored(self, seq: int) -> None:
        """Everything up to it is in the lake: the gateway is told."""
        if seq > self._stored:
            self._stored = seq
            while self._held and self._held[0][0] <= seq:
                self._held.popleft()
            self._has_stored.set()
            self._has_room.set()

    async def run(self) -> None:
        """Follow the gateway, again and again."""
        again_s = AGAIN_FIRST_S
        while True:
            before = self._received
            try:
                await self._follow()
            except (grpc.aio.AioRpcError, HcpError, psycopg.Error) as error:
                self._note(error)
            except Exception as defect:  # noqa: BLE001 - of one facility: tried again, and the others go on
                self._log.error("telemetry_stream_defect", exc_info=defect)
                self.reason = f"(defect: {defect!r})"
            again_s = AGAIN_FIRST_S if self._received > before else min(2 * again_s, AGAIN_LAST_S)
            await asyncio.sleep(again_s)

    async def _follow(self) -> None:
        async with open_channel(self.address, self._tls, OPTIONS) as channel:
            method = channel.stream_stream(f"/{SERVICE}/{METHOD}", pb.CollectorMessage.SerializeToString, _as_it_is)
            call: Call = method()  # type: ignore[call-arg]
            opened = pb.Open(facility_id=self.facility_id, after_seq=self._stored, window_bytes=self._window_bytes)
            await call.write(pb.CollectorMessage(open=opened))
            acking = asyncio.create_task(self._acknowledge(call))
            try:
                async for payload in call:
                    await self._take(payload)
                    await self._wait_for_room()
                    await self._keep_pace()
            finally:
                acking.cancel()
                call.cancel()
                await asyncio.gather(acking, return_exceptions=True)

    async def _acknowledge(self, call: Call) -> None:
        while True:
            await self._has_stored.wait()
            self._has_stored.clear()
            with contextlib.suppress(asyncio.InvalidStateError):  # it has ended, and the next one begins after this
                await call.write(pb.CollectorMessage(ack=pb.Ack(seq=self.done_up_to)))

    @property
    def done_up_to(self) -> int:
        """What the gateway may let go of: what is stored, and what was refused behind it: else that would fill the window."""
        return self._stored if self._held else max(self._stored, self._refused)

    async def _wait_for_room(self) -> None:
        """Read no further while a gateway has sent far beyond its window: memory is this process's, for all facilities."""
        while sum(size for _, size in self._held) > 2 * self._window_bytes + MESSAGE_MAX_BYTES:
            self.reason = (
                f"(it sends beyond its window of {self._window_bytes} bytes: waiting until what came is stored)"
            )
            self._has_room.clear()
            await self._has_room.wait()

    async def _keep_pace(self) -> None:
        """Read no faster than a backlog wants: one gateway must not have the writer, the roll-ups and the room of all."""
        now_s = self._clock.monotonic_s()
        refilled = self._spare + SAMPLES_PER_S * (now_s - self._paced_at_s)
        self._spare, self._paced_at_s = min(refilled, SAMPLES_AT_ONCE) - 1, now_s
        if self._spare < 0:
            await asyncio.sleep(-self._spare / SAMPLES_PER_S)

    async def _take(self, payload: bytes) -> None:
        try:
            sample = decode_sample(payload)
            self._check_name(sample)
            sample = self._check_instants(sample)
        except ValueError as error:
            self._refuse(payload, str(error)[:SHOWN])
            return
        self._check_seq(sample)
        await self._check_parts(sample)
        self._heard_at_s, self.reason, self.shed = self._clock.monotonic_s(), "", sample.shed
        if sample.seq > max(self._received, self._stored):
            self._received = sample.seq
            self._held.append((sample.seq, len(payload)))
            self._intake.put(sample)

    def _refuse(self, payload: bytes, reason: str) -> None:
        metrics.TELEMETRY_REFUSED.labels("no_sense").inc()
        if not self.reason:  # once until one is taken: a gateway must not fill the log
            self._log.warning("a sample was refused", reason=reason)
        self.reason = f"({reason})"
        self._refused = max(self._refused, seq_of(payload))
        self._has_stored.set()

    def _check_name(self, sample: Sample) -> None:
        if sample.facility_id != self.facility_id:
            raise ValueError(f"a sample of {sample.facility_id[:SHOWN]!r} in the stream of {self.facility_id}")

    def _check_instants(self, sample: Sample) -> Sample:
        """The sample, without a meter whose clock is ahead: the devices are not to blame for it.

        Raises:
            ValueError: the sample itself is ahead.
        """
        real_us, now_us = (1e6 * t.timestamp() for t in (self._clock.real_now(), self._clock.now()))
        for name, at_us, limit_us in (
            ("sampled_at", sample.sampled_at_us, real_us), ("simulated_at", sample.simulated_at_us, now_us)
        ):  # fmt: skip
            if at_us > limit_us + 1e6 * EARLY_S:
                ahead_s = (at_us - limit_us) / 1e6
                raise ValueError(
                    f"{name} is {ahead_s:.0f} s ahead, at most {EARLY_S:.0f}: is the gateway's clock right?"
                )
        if sample.meter is not None and sample.meter.read_at_us > now_us + 1e6 * EARLY_S:
            metrics.TELEMETRY_REFUSED.labels("meter").inc()
            return replace(sample, meter=None)
        return sample

    def _check_seq(self, sample: Sample) -> None:
        most = round(self._clock.real_now().timestamp() * 1000) + AHEAD_MS
        if sample.seq > most:
            metrics.TELEMETRY_REFUSED.labels("seq").inc()
            raise FutureSeqError(
                f"seq is {sample.seq}, numbers are below {most}: the gateway began by a clock far ahead. Once that is right, "
                f"move the facility's telemetry folder away and restart the gateway"
            )

    async def _check_parts(self, sample: Sample) -> None:
        known = self._parts.get(sample.generation)
        if known is None:
            known = await self._parts_of(sample.generation)
        if sample.parts != known:
            metrics.TELEMETRY_REFUSED.labels("generation").inc()
            what = "has other groups" if known else "is not in the inventory"
            raise UnknownGenerationError(
                f"generation {sample.generation} of {self.facility_id} {what}: `hcp facility list`"
            )
        self._parts[sample.generation] = known

    def _note(self, error: Exception) -> None:
        told = (error.details() or str(error.code())) if isinstance(error, grpc.aio.AioRpcError) else str(error)
        reason = f"({told.strip()[:SHOWN]})"
        if reason != self.reason:
            self._log.warning("no telemetry", reason=told.strip()[:SHOWN])
        self.reason = reason


def _as_it_is(payload: bytes) -> bytes:
    return payload
