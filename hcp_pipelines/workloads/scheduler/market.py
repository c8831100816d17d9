"""What prices and policies say now: a bound by group and state, the decision price, and what an hour of a device earns.

The bounds are what the owner of each facility finds from the same policy at the same price; the owner's word is the last one.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydantic import ValidationError

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState, ResourceType
from hcp_pipelines.domain.ticks import OFFER_SEPARATOR
from hcp_pipelines.economics.bounds import LIMITS
from hcp_pipelines.economics.power import decision_price_of
from hcp_pipelines.markets.capacity import offer_of
from hcp_pipelines.markets.cloud import CloudOffer, Way
from hcp_pipelines.policy.arrays import CompiledPolicy, Floats, Ints, compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.routing.room import GroupFacts, Market, Room

_NEWEST = """
    select f.id, a.policy_id from unnest(%s::text[]) as f (id) cross join lateral (
        select policy_id from policy_admissions where facility_id = f.id and is_admitted order by policy_id desc limit 1) a"""
_BODY = "select body from policies where id = %s"
_LMPS = """
    select p.point, d."timestamp", d.value from unnest(%s::text[]) as p (point)
    cross join lateral (
        select "timestamp", value from price_data where stream = 'power.rt_lmp' and series = p.point
            and quality in ('good', 'unusual') order by "timestamp" desc, revision desc limit 9) d
    order by d."timestamp" """
_GPU = """
    select m.name, d."timestamp", d.value from unnest(%s::text[]) as m (name)
    cross join lateral (
        select "timestamp", value from price_data where stream = 'gpu.spot' and series = m.name and quality in ('good', 'unusual')
            order by "timestamp" desc, revision desc limit 1) d"""
_CLOUDS = f"""
    select distinct on (series) metadata, value, "timestamp" from price_data
    where price_type = 'gpu_spot' and "timestamp" >= %s and "timestamp" <= %s and position('{OFFER_SEPARATOR}' in series) > 0
        and quality in ('good', 'unusual')
    order by series, "timestamp" desc, revision desc"""  # noqa: S608 - our constant
GPU_INDEX = "gpu."


@dataclass
class PolicyShelf:
    """Policies as compiled once, by facility."""

    compiled: dict[str, tuple[int, CompiledPolicy]] = field(default_factory=dict)
    _mixes: dict[str, tuple[int, Ints]] = field(default_factory=dict)

    async def load(self, connection: Connection, facilities: Sequence[str]) -> None:
        """Take the newest admitted ones."""
        rows = await (await connection.execute(_NEWEST, (list(facilities),), prepare=True)).fetchall()
        for facility_id, policy_id in rows:
            if self.compiled.get(facility_id, (0,))[0] != policy_id:
                row = await (await connection.execute(_BODY, (policy_id,))).fetchone()
                if row is not None and (compiled := _compiled(row[0])) is not None:
                    self.compiled[facility_id] = policy_id, compiled

    def targets(self, facility_id: str, price: float, gpu: Mapping[str, float], now: datetime) -> Ints:
        """[g, s] what the policy asks for; asked about the mix that it would have by itself, as its owner asks it."""
        policy_id, compiled = self.compiled[facility_id]
        known_id, mix = self._mixes.get(facility_id, (0, None))
        if mix is None or known_id != policy_id:
            mix = _anchored(compiled)
        indices = {f"{GPU_INDEX}{model}": value for model, value in gpu.items()}
        found = evaluate(compiled, mix, price, indices, now, GuardState.empty(compiled)).targets
        self._mixes[facility_id] = policy_id, found
        return found


@dataclass(frozen=True, slots=True)
class Prices:
    """LMPs by settlement point (instant, $/MWh), oldest first, and what an hour of a GPU costs on the market, by model.

    `gpu` has the newest rates however old, as owners go by them; what work is to pay is `fresh_gpu`.
    """

    lmps: Mapping[str, Sequence[tuple[datetime, float]]]
    gpu: Mapping[str, float]
    gpu_at: Mapping[str, datetime] = field(default_factory=dict, compare=False)
    clouds: Sequence[CloudOffer] = field(default=(), compare=False)

    def fresh_gpu(self, now: datetime, stale_after_s: float) -> dict[str, float]:
        """The rates that are no older than that."""
        since = now - timedelta(seconds=stale_after_s)
        return {model: usd for model, usd in self.gpu.items() if self.gpu_at[model] >= since}

    def offers(self, now: datetime, stale_after_s: float) -> list[CloudOffer]:
        """What work that finds no room could be rented elsewhere at: the market's rates, and what clouds were told to have."""
        since = now - timedelta(seconds=stale_after_s)
        rates = self.fresh_gpu(now, stale_after_s).items()
        market = [
            CloudOffer("market", "any", "", "", model, 1, Way.ON_DEMAND, usd, now)
            for model, usd in rates
            if np.isfinite(usd) and usd > 0
        ]
        return market + [offer for offer in self.clouds if offer.since >= since]


@dataclass(frozen=True, slots=True)
class Staleness:
    """World seconds after which a power price and a GPU's rate count for nothing."""

    power_s: float
    gpu_s: float


async def read_prices(
    connection: Connection, points: Sequence[str], models: Sequence[str], now: datetime, gpu_stale_s: float
) -> Prices:
    """The newest ones of some settlement points and GPU models, and what clouds offered within so many seconds."""
    lmps = defaultdict[str, list[tuple[datetime, float]]](list)
    for point, at, value in await (await connection.execute(_LMPS, (list(points),), prepare=True)).fetchall():
        if not lmps[point] or lmps[point][-1][0] != at:
            lmps[point].append((at, value))
    rates = await (await connection.execute(_GPU, (list(models),), prepare=True)).fetchall()
    since = now - timedelta(seconds=gpu_stale_s)
    offers = await (await connection.execute(_CLOUDS, (since, now), prepare=True)).fetchall()
    clouds = [offer for row in offers if (offer := _offer(*row)) is not None]
    return Prices(lmps, {model: usd for model, _, usd in rates}, {model: at for model, at, _ in rates}, clouds)


def _offer(told: Mapping[str, Any], usd: float, at: datetime) -> CloudOffer | None:
    """None where a row is no cloud's offer: what one source was told must not end all scheduling."""
    try:
        return offer_of(told, usd, at)
    except (KeyError, ValueError):
        return None


def market_of(room: Room, shelf: PolicyShelf, prices: Prices, now: datetime, stale_after: Staleness) -> Market:
    """Bounds and prices of all groups at this instant."""
    groups = room.groups
    price, bounds = np.full(len(groups), np.nan), np.zeros((len(groups), STATE_COUNT), dtype=np.int64)
    why = [""] * len(groups)
    of_facility = defaultdict[str, list[int]](list)
    for g, group in enumerate(groups):
        of_facility[group.facility_id].append(g)
    for facility_id, own in of_facility.items():
        known = shelf.compiled.get(facility_id)
        lmps = prices.lmps.get(groups[own[0]].settlement_point, ())
        words = _unfit(known, lmps, now, stale_after.power_s)
        if words or known is None:
            for g in own:
                why[g] = words
            continue
        rest = known[1].policy.rest_of_interval
        price[own] = decision_price_of(lmps, rest.slope, rest.offset)
        try:
            targets = shelf.targets(facility_id, float(price[own[0]]), prices.gpu, now)
        except (ArithmeticError, ValueError, IndexError) as error:  # one facility's policy must not end all scheduling
            for g in own:
                why[g] = f"its policy can't be evaluated: {error}"
            continue
        of_group = dict(zip(known[1].group_ids, targets, strict=True))
        for g in own:
            asked = of_group.get(groups[g].group_id)
            bounds[g] = 0 if asked is None else asked @ room.reach[g]
    return Market(price, _revenue(groups, prices.fresh_gpu(now, stale_after.gpu_s)), bounds, tuple(why))


def _unfit(
    known: tuple[int, CompiledPolicy] | None,
    lmps: Sequence[tuple[datetime, float]],
    now: datetime,
    stale_after_s: float,
) -> str:
    if known is None:
        return "no policy has been admitted there yet"
    if known[1].policy.is_expired(now):
        return f"its policy expired at {known[1].policy.expires_at:%Y-%m-%d %H:%M}Z"
    if not lmps or lmps[-1][0] < now - timedelta(seconds=stale_after_s):
        return "its power price is old, or there is none"
    return ""


def _anchored(compiled: CompiledPolicy) -> Ints:
    """What the policy asked for where it was solved."""
    mix = np.zeros((len(compiled.group_ids), STATE_COUNT), dtype=np.int64)
    for row, group_id in enumerate(compiled.group_ids):
        for label, devices in compiled.policy.anchor.target_by_state.get(group_id, {}).items():
            mix[row, DeviceState[label.upper()]] = devices
    return mix


def _revenue(groups: Sequence[GroupFacts], gpu: Mapping[str, float]) -> Floats:
    """[g, s] $ per device-hour: of GPUs the market's rate times what the facility sells a class at; of miners not known here."""
    found = np.full((len(groups), STATE_COUNT), np.nan)
    for g, group in enumerate(groups):
        if group.kind is ResourceType.GPU and group.gpu_type in gpu:
            for state in group.power_kw:
                rate = gpu[group.gpu_type] * float(group.rate_fraction.get(DeviceState(state).mode, 1.0))
                if LIMITS["usd_per_gpu_hour"].has(rate):
                    found[g, state] = rate
    return found


def _compiled(body: object) -> CompiledPolicy | None:
    """None where this version doesn't read it: the one before stays."""
    try:
        return compile_policy(Policy.model_validate(body))
    except (ValidationError, ValueError, ArithmeticError, IndexError):
        return None
