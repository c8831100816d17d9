"""What a facility should be doing at this instant: phase, policy and prices → targets with reasons. Pure.

Which devices carry it out, and how many of them now, is planned in `policy.waves`; keeping state is the owner's.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime

from hcp_pipelines.allocator.health import InputAges, Phase, Step
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.economics.mining import HASHPRICE
from hcp_pipelines.fleet.document import Staleness
from hcp_pipelines.policy.arrays import CompiledPolicy, Ints
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.fallback import fallback_targets
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Policy


@dataclass(frozen=True)
class InForce:
    """The policy that a facility follows."""

    policy_id: int
    policy: Policy
    compiled: CompiledPolicy

    @property
    def rests_on_bitcoin(self) -> bool:
        """Whether a price of bitcoin is in any of its strikes: without miners none is."""
        return any(block.index == HASHPRICE for block in self.policy.blocks)


@dataclass(frozen=True)
class LastPolicy:
    """The last policy that an owner took: its tick (0 where none did), and when it stops being good, Unix seconds."""

    basis_tick_id: int = 0
    expires_at_s: float = math.inf


NO_POLICY = LastPolicy()


@dataclass(frozen=True)
class Limits:
    """Simulated seconds: how old a price may be, and how long to hold before the fallback plan; MW that need no approval."""

    power_staleness_s: float
    bitcoin_staleness_s: float
    hold_s: float
    unasked_mw: float = 0.0  # in a facility in `approve`

    def of(self, own: Staleness) -> "Limits":
        """Those of a facility whose file has some of its own."""
        return replace(
            self,
            power_staleness_s=own.power_price_s or self.power_staleness_s,
            bitcoin_staleness_s=own.btc_price_s or self.bitcoin_staleness_s,
            hold_s=own.hold_s or self.hold_s,
        )


@dataclass(frozen=True)
class Wanted:
    """Targets by group and state, a reason a group, and what the evaluation had to say."""

    targets: Ints
    reasons: tuple[ReasonCode, ...]
    price: float | None
    guard: GuardState | None
    binding: tuple[str, ...] = ()
    adder_usd_per_mwh: float = 0.0  # on top of the price


def input_ages(
    site: Site, in_force: InForce | None, expires_at_s: float, book: MarketBook, limits: Limits
) -> InputAges:
    """Until when each input is good, simulated Unix seconds; `expires_at_s` is the policy's, or that of the one before."""
    power, bitcoin = book.power(site.settlement_point), book.bitcoin()
    ends = [float("-inf") if power is None else power.source_at.timestamp() + limits.power_staleness_s]
    if bitcoin is not None and in_force is not None and in_force.rests_on_bitcoin:
        ends.append(bitcoin.source_at.timestamp() + limits.bitcoin_staleness_s)
    return InputAges(
        price_stale_at_s=min(ends),
        policy_expires_at_s=expires_at_s,
        values_seen=book.values_seen.get(site.settlement_point, 0),
        stale_before_s=book.stale_before_s(site.settlement_point, limits.power_staleness_s),
    )


def want(
    site: Site,
    in_force: InForce,
    book: MarketBook,
    present: Ints,
    now: datetime,
    guard: GuardState,
    elapsed_h: float,
    step: Step,
) -> Wanted | None:
    """What to do now; None where nothing may be done (hold, or no price yet)."""
    groups = len(site.shape.group_ids)
    if step.phase is Phase.HOLD:
        return None
    rest = in_force.policy.rest_of_interval
    price = book.decision_price(site.settlement_point, rest.slope, rest.offset)
    if step.phase is Phase.FALLBACK:
        targets = fallback_targets(site.shape, site.fallback, present)
        return Wanted(targets, (ReasonCode.FALLBACK_PLAN,) * groups, price, None)
    if price is None:
        return None
    found = evaluate(in_force.compiled, present, price, book.indices, now, guard, elapsed_h)
    recovers = step.has_changed and step.reason is ReasonCode.RECOVERY
    reasons = (ReasonCode.RECOVERY,) * groups if recovers else found.reasons
    adder = in_force.compiled.adders_at(now.timestamp())
    words = (*found.binding, f"a coincident peak may add {adder:.2f} $/MWh") if adder else found.binding
    return Wanted(found.targets, reasons, price, found.guard, words, adder)


def static_plan(site: Site, book: MarketBook, present: Ints) -> Wanted:
    """The fallback plan, for which no policy is needed: on stale prices, and between the events of block dispatch."""
    targets = fallback_targets(site.shape, site.fallback, present)
    reasons = (ReasonCode.FALLBACK_PLAN,) * len(site.shape.group_ids)
    return Wanted(targets, reasons, book.decision_price(site.settlement_point), None)
