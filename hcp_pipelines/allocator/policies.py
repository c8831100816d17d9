"""Policies as they arrive: judged once; taken, refused with the reason, or put before an operator while the old one stays."""

from collections.abc import Mapping

import structlog
from pydantic import ValidationError

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.admit import judge, reason_of
from hcp_pipelines.allocator.approvals import Question
from hcp_pipelines.allocator.control import FacilityControl
from hcp_pipelines.allocator.decide import InForce
from hcp_pipelines.allocator.intake import PolicyRow
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.store import Incoming
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.policy.admission import Admission, NeedsApproval
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.runtime.spans import tell_span
from hcp_pipelines.settings import Settings


class PolicyDesk:
    """Admission for the facilities of one allocator."""

    def __init__(self, name: str, settings: Settings, clock: SystemClock, intake: Incoming, book: MarketBook) -> None:
        self._name, self._settings, self._clock = name, settings, clock
        self._intake, self._book = intake, book
        self._refused: set[int] = set()
        self._asked: set[int] = set()
        self._log = structlog.get_logger("allocator")

    async def load(self, controls: Mapping[str, FacilityControl]) -> None:
        """Look at the newest policies, where what one would change can be told."""
        seen = set[str]()
        for row in await self._intake.policies(list(controls)):
            control = controls.get(row.facility_id)
            if control is None or row.facility_id in seen or row.policy_id in self._refused:
                continue
            in_force = control.owner.in_force
            is_known = in_force is not None and row.policy_id <= in_force.policy_id
            if not self._can_judge(control) or is_known or await self._admit(control, row):
                seen.add(row.facility_id)

    def _can_judge(self, control: FacilityControl) -> bool:
        """Whether the gateway has spoken and a price is known: without either, a policy of any size seems to move nothing."""
        return control.owner.is_ready and self._book.power(control.site.settlement_point) is not None

    async def _admit(self, control: FacilityControl, row: PolicyRow) -> bool:
        """Take a policy or refuse it with the reason; the old one stays in force then.

        It is recorded before it is followed: a successor takes none of an older tick, whatever became of this process.
        """
        admission, in_force = self._judge(control, row)
        if isinstance(admission, NeedsApproval):
            return await self._ask(control, row, admission)
        reason = reason_of(admission)
        if not await self._intake.record_admission(row, self._name, reason):
            return True  # another's by now, who judges for itself
        word = "refused" if reason else "admitted"
        metrics.ADMISSIONS.labels(word).inc()
        key = f"policy/{row.policy_id}"
        tell_span(f"policy_{word}", row.basis_tick_id, 0.0, key=key, facility_id=row.facility_id, reason=reason)
        if reason or in_force is None:
            self._refused.add(row.policy_id)
            self._log.warning("policy refused", policy_id=row.policy_id, reason=reason)
        else:
            control.follow(in_force)
            _tell_expected(in_force.policy)
        return not reason

    async def _ask(self, control: FacilityControl, row: PolicyRow, admission: NeedsApproval) -> bool:
        """It moves too much at once: somebody has to agree. Recorded once; it is looked at again when there is an answer."""
        if row.policy_id not in self._asked:
            self._asked.add(row.policy_id)
            metrics.ADMISSIONS.labels("waits").inc()
            reason = reason_of(admission)
            self._log.warning("policy waits for an approval", policy_id=row.policy_id, reason=reason)
            await self._intake.record_admission(row, self._name, reason)
            question = Question("policy", str(row.policy_id), admission.jump_mw, reason)
            await self._intake.ask(control.site.facility_id, question, self._name)
        return False

    def _judge(self, control: FacilityControl, row: PolicyRow) -> tuple[Admission | str, InForce | None]:
        try:
            policy = Policy.model_validate(row.body)
        except ValidationError as error:
            first = error.errors()[0]
            return f"schema: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}", None
        if policy.basis_tick_id != row.basis_tick_id:
            return f"basis: it rests on tick {policy.basis_tick_id}, and was published for {row.basis_tick_id}", None
        try:
            in_force = InForce(row.policy_id, policy, compile_policy(policy))
            word = judge(control.owner, in_force, row.digest, self._book, self._clock.now(), self._settings)
        except (
            ArithmeticError,
            ValueError,
            IndexError,
        ) as error:  # one facility's policy must not end the others' owner
            return f"it can't be evaluated: {error}", None
        return word, in_force


def _tell_expected(policy: Policy) -> None:
    """Of facilities whose groups work for the queue."""
    if policy.expected is not None:
        metrics.EXPECTED_GPUS.labels(policy.facility_id).set(policy.expected.gpus)
        metrics.HAS_FORECAST.labels(policy.facility_id).set(bool(policy.expected.model))
