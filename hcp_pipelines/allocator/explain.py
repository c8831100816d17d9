"""Why a facility does what it does: its policy's explanation at the present price, and what stands over the policy. Pure."""

from dataclasses import asdict, dataclass
from typing import Any

from hcp_pipelines.allocator.preview import Situation, owner_in
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ControlMode, DispatchRegime
from hcp_pipelines.policy.explaining import Explanation, explain
from hcp_pipelines.policy.guard import GuardState


@dataclass(frozen=True)
class Explained:
    """The explanation of a facility; `over_it` is what goes before the price, in words."""

    policy_id: int
    control_mode: str
    over_it: tuple[str, ...]
    explanation: Explanation

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def explained(situation: Situation, price_usd_per_mwh: float | None = None) -> Explained:
    """Why, at the present decision price or at another one.

    Raises:
        ConfigError: no policy was admitted yet, or no price has come in.
    """
    site, in_force = situation.site, situation.in_force
    if in_force is None:
        raise ConfigError(
            f"{site.facility_id} has no admitted policy: `hcp policy show {site.facility_id}` says why the newest is not, "
            "`hcp status` whether ticks come in"
        )
    rest = in_force.policy.rest_of_interval
    price = price_usd_per_mwh
    if price is None:
        price = situation.book.decision_price(site.settlement_point, rest.slope, rest.offset)
    if price is None:
        raise ConfigError(
            f"no price of {site.settlement_point} yet: `hcp status` says whether the feed runs; --price tries one"
        )
    owner = owner_in(situation, ManualClock(situation.now))
    guard = owner.following.guard or GuardState.empty(in_force.compiled)
    found = explain(in_force.compiled, owner.mix(), price, situation.book.indices, situation.now, guard)
    return Explained(
        in_force.policy_id, site.control_mode.value, tuple(_over_it(situation, owner.obligations.floor_mw())), found
    )


def _over_it(situation: Situation, floor_mw: float) -> list[str]:
    site, standing = situation.site, situation.standing
    holding = (timed.directive for timed in standing.timed if timed.holds(situation.now))
    words = [f"{d.directive_id} ({d.kind.name.lower()}) by {d.actor}: {d.detail}" for d in holding]
    words += [f"lockout/{lock.lockout_id} ({lock.scope}) by {lock.holder}: {lock.reason}" for lock in standing.lockouts]
    if floor_mw > 0:
        words.append(f"armed obligations: {floor_mw:.2f} MW of load stay on")
    if site.scheduled:
        names = ", ".join(site.shape.group_ids[g] for g in site.scheduled)
        words.append(
            f"{len(situation.desired.ids)} desired rows say which devices of {names} work, the policy how many at most"
        )
    if site.control_mode is not ControlMode.AUTO:
        words.append(f"control mode {site.control_mode.value}: the policy {_OF_MODE[site.control_mode]}")
    if site.dispatch_regime is not DispatchRegime.SELF:
        words.append(f"dispatch regime {site.dispatch_regime.value}: the market's word goes first")
    if situation.in_force is not None and situation.in_force.policy.is_expired(situation.now):
        words.append(f"the policy expired at {situation.in_force.policy.expires_at:%Y-%m-%d %H:%M}Z")
    return words


_OF_MODE = dict.fromkeys(ControlMode, "is not carried out") | {ControlMode.APPROVE: "waits for a person's approval"}
