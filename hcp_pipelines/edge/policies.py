"""The policy in force at a gateway: judged once more before it is stored, and evaluated only when no owner is there.

For the latter the gateway needs a price of its own (`local_prices.py`). When, is `cutoff.py`'s to say.
"""

import math

import numpy as np
import structlog
from pydantic import ValidationError

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.edge.recovery import Known
from hcp_pipelines.policy.admission import AdmissionContext, Refused, admit
from hcp_pipelines.policy.arrays import CompiledPolicy, Ints, compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.wire import edge_v1_pb2 as pb

BODY_MAX_BYTES = 4 * 1024 * 1024


class Policies:
    """One facility's policy."""

    def __init__(self, config: FacilityConfig, log: FacilityLog, clock: SystemClock, known: Known) -> None:
        self._config, self._log, self._clock = config, log, clock
        self.stored: pb.SetPolicy | None = known.policy
        self._compiled = _compiled(known.policy)
        self._log_line = structlog.get_logger("edge").bind(facility_id=config.facility_id)

    @property
    def policy_id(self) -> int:
        """The policy that was admitted here; 0: none."""
        return int(self.stored.policy_id) if self.stored is not None else 0

    async def judge(self, message: pb.SetPolicy, refusal: str) -> pb.PolicyJudged:
        """Admit and store, or refuse; the one before stays then. `refusal` is what the session was found to lack."""
        is_known = self.stored is not None and self.stored.body == message.body and self.policy_id == message.policy_id
        if is_known and not refusal:
            return pb.PolicyJudged(policy_id=message.policy_id, seq=self._log.last_seq)
        objection = refusal or self._objection(message)
        return self._refuse(message, objection) if objection else await self._store(message)

    def _objection(self, message: pb.SetPolicy) -> str:
        bad = RefusalCode.BAD_MESSAGE.value
        if len(message.body) > BODY_MAX_BYTES:
            return f"{bad}: {len(message.body)} bytes, at most {BODY_MAX_BYTES} are taken"
        try:
            policy = Policy.model_validate_json(message.body)
        except ValidationError as error:
            return f"{bad}: {error.errors()[0]['msg']}"
        if [group.group_id for group in policy.groups] != [group.group_id for group in self._config.groups]:
            return "groups: they are not those of the gateway's file"
        if problem := _problem_of(policy):
            return f"{bad}: {problem}"
        match admit(policy, self._context(policy)):
            case Refused(code, reason):
                return f"{code}: {reason}"
            case _:  # a jump is judged by the owner, who knows what somebody has approved
                return ""

    def targets(self, present: Ints, price: float, indices: dict[str, float]) -> Ints | None:
        """[g, s] what the policy asks for at a price of the gateway's own; None without a policy that may be applied."""
        now = self._clock.now()
        source = self._config.local_prices
        if self._compiled is None or source is None or self._compiled.policy.is_expired(now):
            return None
        if self._compiled.policy.settlement_point != source.settlement_point:
            return None
        asked = evaluate(self._compiled, present, price, indices, now, GuardState.empty(self._compiled))
        return asked.targets

    def _context(self, policy: Policy) -> AdmissionContext:
        """What is known here: limits from the gateway's file; obligations are the owner's to know."""
        limits = {feeder_id: kw / 1000 for feeder_id, kw in self._config.feeder_limits_kw.items()}
        basis = self._compiled.policy.basis_tick_id if self._compiled is not None else -1
        return AdmissionContext(
            now=self._clock.now(),
            facility_id=self._config.facility_id,
            inventory_generation=self._config.generation,
            obligations_version=policy.obligations_version,
            basis_tick_id_in_force=basis,
            site_cap_mw=self._config.limit_kw / 1000 if self._config.limit_kw else math.inf,
            feeder_caps_mw=limits,
            max_input_age_s={Stream.POWER_RT_LMP.value: self._config.price_staleness_s},
            fresh_at=policy.solved_at,  # that its owner took it in time is the owner's to judge: it may come here much later
        )

    async def _store(self, message: pb.SetPolicy) -> pb.PolicyJudged:
        seq = self._log.reserve()
        try:
            await self._log.append([(seq, "policy", message.SerializeToString())])
        except StorageError as error:
            return self._refuse(message, f"{RefusalCode.STORE_FAILED.value}: {error}")
        self.stored, self._compiled = message, _compiled(message)
        return pb.PolicyJudged(policy_id=message.policy_id, seq=seq)

    def _refuse(self, message: pb.SetPolicy, why: str) -> pb.PolicyJudged:
        metrics.REFUSED.labels("policy").inc()
        self._log_line.warning("a policy was refused", policy_id=message.policy_id, why=why[:500])
        return pb.PolicyJudged(policy_id=message.policy_id, refusal=why[:500])


def _problem_of(policy: Policy) -> str:
    """Why a policy can't be evaluated, found out before it is stored: what is stored is compiled at every start."""
    try:
        compiled = compile_policy(policy)
        present, anchor = np.zeros(compiled.power_mw.shape, dtype=np.int64), policy.anchor
        evaluate(
            compiled,
            present,
            anchor.decision_price_usd_per_mwh,
            anchor.indices,
            policy.solved_at,
            GuardState.empty(compiled),
        )
    except (ArithmeticError, ValueError, IndexError) as error:
        return f"it can't be evaluated: {error}"
    return ""


def _compiled(stored: pb.SetPolicy | None) -> CompiledPolicy | None:
    return compile_policy(Policy.model_validate_json(stored.body)) if stored is not None else None
