"""Sends submissions to an API: open loop, retries under one idempotency key, bounded concurrency, and a tally of what came back.

The API's shape is in docs/workloads.md. Latencies count from the intended instant, so that a slow API
hides nothing that waited for it.
"""

import asyncio
import json
import random as jitter
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import numpy as np

from simulators.workloads.requests import Submission

PATH: Final = "/api/v1/workloads/submit"
FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 60.0
TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_EDGES_MS: Final = np.geomspace(0.1, 1e6, 281)  # 6 % wide: as exact as a quantile needs to be, in constant memory


class SubmitError(Exception):
    """Nothing can be sent; the message says why."""


@dataclass(frozen=True)
class Keys:
    """API keys by customer; `default` is everybody else's."""

    default: str | None
    by_customer: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """A file with a key alone, or lines `CUSTOMER KEY`; `*` stands for everybody else.

        Raises:
            SubmitError: it can't be read, or a line is neither.
        """
        try:
            lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise SubmitError(f"key file {path}: {error.strerror}") from error
        if len(lines) == 1 and len(lines[0]) == 1:
            return cls(lines[0][0])
        wrong = [number for number, parts in enumerate(lines, 1) if len(parts) != 2]
        if wrong or not lines:
            raise SubmitError(
                f"key file {path}, line {wrong[0] if wrong else 1}: wanted CUSTOMER KEY, or one key alone"
            )
        keys = dict(lines)
        return cls(keys.pop("*", None), keys)

    def of(self, customer: str) -> str:
        """The key that speaks for a customer.

        Raises:
            SubmitError: there is none.
        """
        key = self.by_customer.get(customer, self.default)
        if key is None:
            raise SubmitError(f"the key file has no key of {customer} and no line for *")
        return key


@dataclass(frozen=True)
class Target:
    """Where to, and how hard. `speed`: simulated seconds a real one; None: as fast as it is taken.

    `patience_s`: from the first attempt at a submission; one that would have to wait longer is given up.
    """

    url: str
    keys: Keys
    speed: float | None = None
    concurrency: int = 64
    timeout_s: float = 10.0
    attempts: int = 8
    patience_s: float = 120.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SubmitError(f"{self.url!r} is no http:// or https:// address")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise SubmitError(f"{self.url} would carry API keys in the clear: use https://, or a loopback address")


class Tally:
    """What came of it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.by_status: Counter[str] = Counter()
        self._latencies = np.zeros(len(_EDGES_MS) + 1, dtype=np.int64)

    def add(self, outcome: str, latency_s: float, label: Mapping[str, Any]) -> None:
        """One submission has ended: `accepted`, `refused` or `given_up`."""
        self.counts[outcome] += 1
        self._latencies[np.searchsorted(_EDGES_MS, 1000 * latency_s)] += 1
        kind, _, _ = str(label["defect"]).partition(":")
        if outcome == "accepted" and label["defect"] is not None:
            self.counts[f"{kind}_but_accepted"] += 1
        if outcome == "refused" and label["defect"] is None:
            self.counts["sound_but_refused"] += 1

    def latency_ms(self, level: float) -> float:
        """A quantile of the time from the intended sending to the last answer; 0 before any."""
        total = int(self._latencies.sum())
        place = int(np.searchsorted(np.cumsum(self._latencies), level * total))
        return float(_EDGES_MS[min(place, len(_EDGES_MS) - 1)]) if total else 0.0

    def report(self) -> dict[str, Any]:
        """As it is printed."""
        names = (
            "accepted",
            "refused",
            "given_up",
            "retried",
            "malformed_but_accepted",
            "impossible_but_accepted",
            "sound_but_refused",
        )
        latencies = {
            f"latency_p{round(100 * level)}_ms": round(self.latency_ms(level), 1) for level in (0.5, 0.95, 0.99)
        }
        return (
            {name: self.counts[name] for name in names}
            | latencies
            | {"by_status": dict(sorted(self.by_status.items()))}
        )


async def send(stream: Iterable[Submission], target: Target, tally: Tally) -> None:
    """Send everything; returns when the last has been answered or given up. One in each of `concurrency` places at a time."""
    free, loop = asyncio.Semaphore(target.concurrency), asyncio.get_running_loop()
    limits = httpx.Limits(max_connections=target.concurrency, max_keepalive_connections=target.concurrency)
    begun_s, first_at_s = loop.time(), None
    async with httpx.AsyncClient(limits=limits, timeout=target.timeout_s) as client, asyncio.TaskGroup() as tasks:
        for each in stream:
            intended_s = loop.time()
            if target.speed is not None:
                first_at_s = each.at_s if first_at_s is None else first_at_s
                intended_s = begun_s + (each.at_s - first_at_s) / target.speed
                await asyncio.sleep(max(intended_s - loop.time(), 0.0))
            await free.acquire()
            task = tasks.create_task(_one(client, target, each, intended_s, tally))
            task.add_done_callback(lambda _: free.release())


async def _one(client: httpx.AsyncClient, target: Target, each: Submission, intended_s: float, tally: Tally) -> None:
    headers = {
        "Authorization": f"Bearer {target.keys.of(each.customer_id)}",
        "Idempotency-Key": each.idempotency_key,
        "Content-Type": "application/json",
    }
    body = json.dumps(each.spec)  # also where it is nothing: `null`
    outcome, loop = "given_up", asyncio.get_running_loop()
    begun_s = loop.time()
    for attempt in range(target.attempts):
        told_s: float | None = None
        try:
            answer = await client.post(target.url.rstrip("/") + PATH, content=body, headers=headers)
            tally.by_status[str(answer.status_code)] += 1
            if answer.status_code not in TRY_AGAIN:
                outcome = "accepted" if answer.is_success else "refused"
                break
            told_s = retry_after_s(answer.headers)
        except httpx.TransportError as error:
            tally.by_status[type(error).__name__] += 1
        wait_s = _wait_s(attempt, told_s)
        if attempt + 1 == target.attempts or loop.time() + wait_s > begun_s + target.patience_s:
            break
        tally.counts["retried"] += 1
        await asyncio.sleep(wait_s)
    tally.add(outcome, loop.time() - intended_s, each.label)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a reply asks to wait, by seconds, or by an instant against the reply's own `Date`; None where it doesn't say."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        until, now = (parsedate_to_datetime(each) for each in (text, headers.get("date", "")))
    except ValueError:
        return None
    return max((until.replace(tzinfo=UTC) - now.replace(tzinfo=UTC)).total_seconds(), 0.0)


def _wait_s(attempt: int, told_s: float | None) -> float:
    """At least what was asked for, and a part of a doubling wait, so that many don't come back at once."""
    own_s = FIRST_WAIT_S * 2.0**attempt * jitter.uniform(0.5, 1.0)  # noqa: S311 (no secret hangs on it)
    return (told_s or 0.0) + min(own_s, LONGEST_WAIT_S)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
