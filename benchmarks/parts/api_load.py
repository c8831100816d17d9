"""A process that loads the API over sockets of its own: many submissions at one instant, or at a rate whatever comes back.

Plain HTTP by hand, so that the load costs less than what it loads. Latencies count from the instant at which a request was to
be sent. What it is to do comes as JSON on standard input, what came of it goes out as JSON.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common import percentile, rounded
from hcp_pipelines.runtime.process import allow_files

SUBMIT, READ = "/api/v1/workloads/submit", "/api/v1/workloads"
ANSWER_WITHIN_S = 30.0
FILES = 20_000
OTHER_FILES = 100
CLASSES = ("ai_inference_realtime", "ai_inference_batch", "model_training")
READS_PER_S = 20.0
DRAINED_WITHIN_S = 15.0
SEED = 7
ACCEPTED, COME_AGAIN = 202, frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: 0 is nothing."""

    status: int
    retry_after: str
    body: bytes


NOTHING = Answer(0, "", b"")


class Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._received, self._waits = bytearray(), None

    _waits: asyncio.Future[Answer] | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        """Whoever waits is told that nothing comes."""
        self.transport = None
        self._tell(NOTHING)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._received += data
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(rest) >= int(told.get("content-length", "0")):
            self._received.clear()
            self._tell(Answer(int(first.split()[1]), told.get("retry-after", ""), rest))

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send it; what comes back."""
        assert self.transport is not None
        self._waits = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._waits

    def _tell(self, answer: Answer) -> None:
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(answer)


@dataclass
class Client:
    """Requests of some customers, each from an address of its own."""

    host: str
    port: int
    keys: Sequence[str]
    source: random.Random = field(default_factory=lambda: random.Random(SEED))  # noqa: S311 - a choice of customers
    _free: dict[int, list[Line]] = field(default_factory=dict)

    def submission(self, who: int) -> bytes:
        """A request of one."""
        spec = {
            "workload_type": self.source.choice(CLASSES),
            "gpu_count": self.source.choice((1, 2, 4, 8)),
            "estimated_duration_s": 600,
        }
        return self.request("POST", SUBMIT, who, json.dumps(spec).encode())

    def request(self, method: str, path: str, who: int, body: bytes = b"") -> bytes:
        """As it goes over the line."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.keys[who]}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def open(self, who: int) -> Line:
        """A new connection, from the customer's own address of loopback's."""
        own = (f"127.0.{1 + who // 200}.{1 + who % 200}", 0)
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Line, self.host, self.port, local_addr=own))[1]

    async def ask(self, request: bytes, who: int) -> Answer:
        """On a connection that rests, or a new one."""
        free = self._free.setdefault(who, [])
        line = free.pop() if free else await self.open(who)
        if line.transport is None:
            line = await self.open(who)
        answer = await asyncio.wait_for(line.ask(request), ANSWER_WITHIN_S)
        if line.transport is not None:
            free.append(line)
        return answer


async def at_once(client: Client, count: int) -> dict[str, Any]:
    """So many connections at one instant, a submission each; who has been there before, and so is known, asks."""
    for who in range(len(client.keys)):
        await client.ask(client.request("GET", f"{READ}?limit=1", who), who)
    requests = [(n % len(client.keys), client.submission(n % len(client.keys))) for n in range(count)]
    begun_s = time.perf_counter()

    async def one(who: int, request: bytes) -> tuple[Answer, float]:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                line = await client.open(who)
                answer = await line.ask(request)
        except (OSError, TimeoutError):
            answer = NOTHING
        return answer, time.perf_counter() - begun_s

    answered = await asyncio.gather(*(one(*each) for each in requests))
    by_status = Counter(str(answer.status) if answer.status else "none" for answer, _ in answered)
    told = [answer for answer, _ in answered if answer.status in COME_AGAIN]
    return {
        "connections": count, "by_status": dict(sorted(by_status.items())),
        "without_retry_after": sum(not answer.retry_after.isdigit() for answer in told),
        "unanswered": sum(answer.status != ACCEPTED and answer.status not in COME_AGAIN for answer, _ in answered),
        "slowest_answer_s": rounded(max(took_s for _, took_s in answered)),
        "accepted": [json.loads(answer.body)["workload_id"] for answer, _ in answered if answer.status == ACCEPTED],
    }  # fmt: skip


async def open_loop(client: Client, rates: Sequence[float], for_s: float, most_ms: float) -> dict[str, Any]:
    """A step for each rate, until its p95 is above so many milliseconds, with reads beside; what was taken of all of them."""
    steps, accepted = list[dict[str, Any]](), list[str]()
    await _step(client, rates[0], min(for_s, 2.0), accepted)  # accounts become known, connections stand
    for rate in rates:
        steps.append(await _step(client, rate, for_s, accepted))
        if not (steps[-1]["p95_ms"] or most_ms) <= most_ms:
            break
    return {"steps": steps, "accepted": accepted}


async def _step(client: Client, rate: float, for_s: float, ids: list[str]) -> dict[str, Any]:
    took_ms, read_ms, by_status = list[float](), list[float](), Counter[str]()

    async def submit(at_s: float) -> None:
        who = client.source.randrange(len(client.keys))
        answer = await _answered(client, client.submission(who), who)
        took_ms.append((time.perf_counter() - at_s) * 1e3)
        by_status[str(answer.status)] += 1
        if answer.status == ACCEPTED:
            ids.append(json.loads(answer.body)["workload_id"])

    async def read(at_s: float) -> None:
        who = client.source.randrange(len(client.keys))
        await _answered(client, client.request("GET", f"{READ}?limit=20", who), who)
        read_ms.append((time.perf_counter() - at_s) * 1e3)

    begun_s, under_way = time.perf_counter() + 0.05, list[asyncio.Task[None]]()
    due = [(begun_s + n / rate, submit) for n in range(int(rate * for_s))]
    due += [(begun_s + (n + 0.5) / READS_PER_S, read) for n in range(int(READS_PER_S * for_s))]
    for at_s, do in sorted(due, key=lambda one: one[0]):
        if (rest_s := at_s - time.perf_counter()) > 0:
            await asyncio.sleep(rest_s)
        under_way.append(asyncio.create_task(do(at_s)))
    await asyncio.wait(under_way, timeout=DRAINED_WITHIN_S)
    late = [task for task in under_way if not task.done()]
    for task in late:
        task.cancel()
    levels = {f"p{round(100 * level)}_ms": rounded(percentile(took_ms, level)) for level in (0.5, 0.95, 0.99)}
    counts = {"per_s": rate, "submitted": int(rate * for_s), "sent": len(due), "unanswered": len(late)}
    return counts | levels | {
        "read_p50_ms": rounded(percentile(read_ms, 0.5)), "read_p95_ms": rounded(percentile(read_ms, 0.95)),
        "by_status": dict(sorted(by_status.items())),
    }  # fmt: skip


async def _answered(client: Client, request: bytes, who: int) -> Answer:
    try:
        return await client.ask(request, who)
    except (OSError, TimeoutError):
        return NOTHING


async def load(wanted: Mapping[str, Any]) -> Any:
    """What is asked for: `at_once` connections, or `rates`."""
    client = Client(wanted["host"], wanted["port"], wanted["keys"])
    if "at_once" in wanted:
        return await at_once(client, min(wanted["at_once"], allow_files(FILES) - OTHER_FILES))
    return await open_loop(client, wanted["rates"], wanted["for_s"], wanted["most_ms"])


if __name__ == "__main__":
    json.dump(asyncio.run(load(json.load(sys.stdin))), sys.stdout)
