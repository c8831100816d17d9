"""The record of routing decisions (WL-24): written by the scheduler, read by people who ask why. Deciding is in `routing/`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from hcp_pipelines.workloads.claiming import Connection

_DECIDE = """
    insert into routing_decisions (
        workload_id, lease_epoch, outcome, facility_id, group_id, devices, cost_usd_per_hour, latency_ms, score, confidence,
        reason, cloud_provider, cloud_region, cloud_usd, cloud_done_at, explanation, decided_at)
    select d.workload_id, d.epoch, d.outcome, d.facility_id, d.group_id, d.devices, d.cost, d.latency, d.score, d.confidence,
           d.reason, d.cloud_provider, d.cloud_region, d.cloud_usd, d.cloud_done_at, d.explanation::jsonb, %s
    from unnest(%b::uuid[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::integer[], %b::float8[], %b::float8[],
                %b::float8[], %b::float8[], %b::text[], %b::text[], %b::text[], %b::float8[], %b::timestamptz[], %b::text[])
        as d (workload_id, epoch, outcome, facility_id, group_id, devices, cost, latency, score, confidence, reason,
              cloud_provider, cloud_region, cloud_usd, cloud_done_at, explanation)"""
_READ = """
    select workload_id, lease_epoch as epoch, outcome, facility_id, group_id, devices, cost_usd_per_hour, latency_ms, score,
           confidence, reason, explanation, decided_at, cloud_provider, cloud_region, cloud_usd, cloud_done_at, id
    from routing_decisions where workload_id = %s and (%s::bigint is null or id < %s) order by id desc limit %s"""
_DEVICES = """
    select coalesce(array_agg(a.resource_id order by a.resource_id), '{}') from allocations a
    join allocation_headers h on h.id = a.header_id where a.workload_id = %s and h.lease_epoch = %s"""
_PLAIN = (
    "workload_id", "epoch", "outcome", "facility_id", "group_id", "devices", "cost_usd_per_hour", "latency_ms", "score",
    "confidence", "reason", "cloud_provider", "cloud_region", "cloud_usd", "cloud_done_at",
)  # fmt: skip
# What work itself asked for, against what a group is: a customer may know it. All other words are classed, whatever they say.
_OF_THE_WORK = re.compile(
    r"has |its devices can't be|[\d.e+]+ GB a GPU|the work asks|not in the region|\d+ ms away|\d+ are free, but not"
)
_SCARCE = re.compile(r"-?\d+ to be had of \d+|kept for ")
TOO_FEW, NOT_OPEN = "too few devices are to be had", "not open to this work at present"


@dataclass(frozen=True, slots=True)
class Decision:
    """A routing decision: outcome `placed`, `none` or `overflow`; `explanation` has a score or the reason against it by group.

    `cost_usd_per_hour` is the energy that all devices draw, or what a cloud would ask; `cloud_…` say of an `overflow` where,
    for how many dollars in all and by when. `id` is 0 until it is kept.
    """

    workload_id: UUID
    epoch: int
    outcome: str
    facility_id: str | None
    group_id: str | None
    devices: int
    cost_usd_per_hour: float | None
    latency_ms: float | None
    score: float | None
    confidence: float | None
    reason: str
    explanation: Sequence[Sequence[float | str]]
    decided_at: datetime
    cloud_provider: str | None = None
    cloud_region: str | None = None
    cloud_usd: float | None = None
    cloud_done_at: datetime | None = None
    id: int = 0

    def by_group(self) -> list[dict[str, Any]]:
        """What was found of each group, the best score first, those without one last: `group`, `score`, `why_not`."""
        placed = [(str(group), float(word)) for group, word in self.explanation if not isinstance(word, str)]
        refused = [(str(group), word) for group, word in self.explanation if isinstance(word, str)]
        return [
            *({"group": n, "score": score, "why_not": ""} for n, score in sorted(placed, key=lambda p: (-p[1], p[0]))),
            *({"group": n, "score": None, "why_not": word} for n, word in sorted(refused)),
        ]

    def for_customer(self) -> "Decision":
        """As the customer is told: no staff, no policies, no other customer's work."""
        return replace(self, explanation=[(group, _told(word)) for group, word in self.explanation])


async def record(connection: Connection, decisions: Sequence[Decision], now: datetime) -> None:
    """Write decisions down, as made `now` (world time)."""
    if not decisions:
        return
    columns = [[getattr(d, name) for d in decisions] for name in _PLAIN]
    different = {id(d.explanation): d.explanation for d in decisions}  # many of a batch share one
    as_text = {key: json.dumps(explanation) for key, explanation in different.items()}
    explanations = [as_text[id(d.explanation)] for d in decisions]
    await connection.execute(_DECIDE, (now, *columns, explanations), prepare=True)


async def decisions_of(
    connection: Connection, workload_id: UUID, limit: int = 10, after: int | None = None
) -> list[Decision]:
    """A workload's decisions, newest first: those before the one of the id `after`."""
    async with connection.cursor(row_factory=class_row(Decision)) as cursor:
        await cursor.execute(_READ, (workload_id, after, after, limit))
        return await cursor.fetchall()


async def devices_of(connection: Connection, decision: Decision) -> list[str]:
    """The devices that it came to (`TargetResources`): those allocated under its epoch."""
    row = await (await connection.execute(_DEVICES, (decision.workload_id, decision.epoch))).fetchone()
    return list(row[0]) if row else []


def _told(word: float | str) -> float | str:
    """A score, or why there is none, in words that are for customers.

    >>> _told("12 ms away, 10 ms are allowed"), _told("locked out (site) by bob: rats"), _told("3 to be had of 4: the policy …")
    ('12 ms away, 10 ms are allowed', 'not open to this work at present', 'too few devices are to be had')
    """
    if not isinstance(word, str) or _OF_THE_WORK.match(word):
        return word
    return TOO_FEW if _SCARCE.match(word) else NOT_OPEN
