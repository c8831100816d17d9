"""What waits for a second person: waves of a facility in `approve`, policies that move too much at once (DESIGN §7.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import psycopg

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.arrays import Ints
from hcp_pipelines.policy.waves import FacilityShape

GOOD_FOR = timedelta(minutes=30)  # simulated: prices will have moved on
_BETWEEN = "; "  # two groups of a question
DECIDED_BY_DEFAULT_MW = 1e9  # HCP_APPROVAL_MW as shipped: in `approve` everything waits then

_ASK = """
    insert into approvals (facility_id, what, subject, mw, detail, requested_by, expires_at)
    select %(facility_id)s, %(what)s, %(subject)s, %(mw)s, %(detail)s, %(by)s, %(expires_at)s
    where not exists (select from approvals where facility_id = %(facility_id)s and what = %(what)s
                      and subject = %(subject)s and expires_at > %(now)s)
    on conflict (facility_id, what, subject) where decision is null do nothing"""
_APPROVED = """
    select facility_id, what, subject from approvals
    where facility_id = any(%s) and decision = 'approved' and what in ('wave', 'policy') and expires_at > %s"""


@dataclass(frozen=True, slots=True)
class Question:
    """Something that has to be approved before it happens."""

    what: Literal["wave", "policy"]
    subject: str
    mw: float
    detail: str


@dataclass(frozen=True, slots=True)
class Approved:
    """What somebody has approved, and is still good."""

    waves: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()

    def covers(self, question: Question) -> bool:
        """Whether a change was approved, or what is left of one: groups that have arrived are no part of the question any more.

        >>> Approved(frozenset({"a: idle 3; b: idle 5"})).covers(Question("wave", "b: idle 5", 1.0, ""))
        True
        """
        parts = set(question.subject.split(_BETWEEN))
        return any(parts <= set(subject.split(_BETWEEN)) for subject in self.waves)


def wave_question(shape: FacilityShape, present: Ints, targets: Ints, limit_mw: float) -> Question | None:
    """What a change of mix needs approval for; None where it moves at most `limit_mw`.

    The subject says what it would do: prices may move while somebody thinks, and the answer is good for the same change only.
    """
    by_group = ((targets - present) * shape.power_mw).sum(axis=1)
    mw = float(np.abs(by_group).sum())
    if mw <= limit_mw:
        return None
    parts = []
    for g in np.flatnonzero((targets != present).any(axis=1)).tolist():
        mix = ", ".join(f"{DeviceState(s).label} {targets[g, s]}" for s in np.flatnonzero(targets[g]).tolist())
        parts.append(f"{shape.group_ids[g]}: {mix}")
    return Question("wave", _BETWEEN.join(parts), mw, f"{float(by_group.sum()):+.2f} MW at the meter")


def limit_in_approve_mw(approval_mw: float) -> float:
    """What a facility in `approve` may move unasked."""
    return 0.0 if approval_mw >= DECIDED_BY_DEFAULT_MW else approval_mw


async def ask(
    connection: "psycopg.AsyncConnection[Any]", facility_id: str, question: Question, asked_by: str, now: datetime
) -> None:
    """Ask, unless the same question stands or was answered while it is good."""
    await connection.execute(
        _ASK,
        {
            "facility_id": facility_id, "what": question.what, "subject": question.subject, "mw": question.mw,
            "detail": question.detail, "by": asked_by, "expires_at": now + GOOD_FOR, "now": now,
        },
    )  # fmt: skip


async def read_approved(
    connection: "psycopg.AsyncConnection[Any]", facility_ids: Sequence[str], now: datetime
) -> dict[str, Approved]:
    """What is approved for some facilities, each one named."""
    rows = await (await connection.execute(_APPROVED, (list(facility_ids), now))).fetchall()
    return {
        facility_id: Approved(
            frozenset(subject for f, what, subject in rows if f == facility_id and what == "wave"),
            frozenset(subject for f, what, subject in rows if f == facility_id and what == "policy"),
        )
        for facility_id in facility_ids
    }
