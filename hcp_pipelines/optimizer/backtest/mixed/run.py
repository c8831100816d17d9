"""A mixed facility's back-test from its request to its report: gaps to the oracle, and what each source of value brought."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, instant
from hcp_pipelines.optimizer.backtest import folder
from hcp_pipelines.optimizer.backtest.account import GapClosed, gap_closed, unknown_shares, worst_month
from hcp_pipelines.optimizer.backtest.mixed import limits, ramps
from hcp_pipelines.optimizer.backtest.mixed.foresight import foresee
from hcp_pipelines.optimizer.backtest.mixed.hours import hour_files, load_hours
from hcp_pipelines.optimizer.backtest.mixed.learning import (
    followed_by_miners,
    refuse_part_hours,
    unknown_peaks,
    world_of,
)
from hcp_pipelines.optimizer.backtest.mixed.ledger import Ledger, settle
from hcp_pipelines.optimizer.backtest.mixed.response.calls import Clock, Response, enrolled_site, response_of
from hcp_pipelines.optimizer.backtest.mixed.response.terms import Terms
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, Rules, decide
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW, MixedSite
from hcp_pipelines.optimizer.backtest.mixed.world import Actions, World
from hcp_pipelines.optimizer.backtest.relearning import relearnt_note
from hcp_pipelines.optimizer.backtest.request import Request, refuse_unclear
from hcp_pipelines.optimizer.backtest.run import Progress, data_notes

NAMES = (*(rules.name for rules in ALL_RULES), "oracle")
NEEDED = ("break_even", "field", "oracle")
AVOIDED = 0.8  # of a peak: less than this share of the load that break_even had
Decide = Callable[[World], Actions]


@dataclass(frozen=True)
class Sources:
    """What a strategy's sources of value brought, against itself without them; None: there was nothing.

    A programme's is what it paid less what was charged and what obeying cost, reserves that can't be sold beside it included.
    """

    reserves_usd: float
    reserves_share: float | None  # of what the oracle's brought
    worst_reserves_month: str
    worst_reserves_usd: float
    peaks_usd: float  # what it saved of the charge, less what it cost
    peaks_share: float | None  # of the charge it would have paid
    peaks_avoided: int
    peaks: int
    response_usd: float = 0.0
    response_share: float | None = None  # of what the oracle's brought


@dataclass(frozen=True)
class MixedReport:
    """All of a facility; `gaps` against break_even, `field_gaps` against the stronger field."""

    request: Request
    world: World
    files: Mapping[str, str]
    ledgers: dict[str, Ledger]
    gaps: dict[str, GapClosed]
    field_gaps: dict[str, GapClosed]
    sources: dict[str, Sources]
    notes: tuple[str, ...]


def run_mixed(
    request: Request, site: MixedSite = MIXED_100MW, progress: Progress = lambda *_: None, terms: Terms | None = None
) -> MixedReport:
    """Back-test the strategies of a mixed facility, enrolled in a demand response programme where there are terms of one.

    Raises:
        ConfigError: an empty window, a series that can't be used, too little to learn from, a programme that can't be met.
    """
    refuse_unclear(request, NAMES)
    if request.has_least_times:
        raise ConfigError(
            "minimum times are those of one megawatt of miners (asic-1mw): a mixed facility sells and sheds them by the "
            "interval. Leave --min-up-minutes and --min-down-minutes out."
        )
    recorded = folder.load(request.sources, request.start, request.end)
    refuse_part_hours(request, recorded.prices.step_minutes)
    if terms is not None:
        refuse_bound(site, recorded.prices.step_minutes / 60)
        site = enrolled_site(site, terms)
    hours = load_hours(request.sources, request.end)
    followed = followed_by_miners(request, recorded, progress)
    world = world_of(request, recorded, hours, site, followed)
    world = world if terms is None else with_programme(world, terms)
    files = recorded.files | hour_files(request.sources)
    unknown = unknown_peaks(request, hours, site.peaks.months)
    return report_of(
        request, world, files, [*data_notes(request, recorded), *unknown, *relearnt_note(request, followed)]
    )


def refuse_bound(site: MixedSite, step_h: float) -> None:
    """Raise ConfigError for a site whose limits or ramps bind: how a programme is met under them is not known here."""
    if limits.binds(site) or ramps.bind(site, step_h):
        raise ConfigError(
            "demand response is back-tested where all load fits at once and can come and go within an interval, which this "
            "site's limits or ramps don't let it: leave --response out, or back-test another file"
        )


def with_programme(world: World, terms: Terms) -> World:
    """A world whose enrolled groups are in a programme.

    Raises:
        ConfigError: its calls don't fit the terms, or its notice is too short.
    """
    case, hours = world.cases[0], world.ahead
    clock = Clock(case.starts_us, world.steps, hours.local_hour, hours.day)
    return replace(world, response=response_of(terms, world.site, clock, case.day_ahead[:: world.steps]))


def report_of(request: Request, world: World, files: Mapping[str, str], notes: Sequence[str] = ()) -> MixedReport:
    """The report of a world that is made already; `notes` are those on its series and on what was learnt."""
    names = [n for n in NAMES if not request.strategies or n in request.strategies or n in NEEDED]
    deciders = {rules.name: _decider(rules) for rules in ALL_RULES if rules.name in names} | {"oracle": foresee}
    ledgers = {name: settle(world, decider(world)) for name, decider in deciders.items()}
    mw = sum(group.mw for group in world.site.groups)
    case = world.cases[0]
    gaps, field_gaps = (
        {name: gap_closed(case, ledgers, name, base=base, mw=mw) for name in ledgers}
        for base in ("break_even", "field")
    )
    sources = _sources(world, deciders, ledgers)
    return MixedReport(
        request,
        world,
        files,
        ledgers,
        gaps,
        field_gaps,
        sources,
        (*notes, *_notes(world, mw), *unknown_shares({"": gaps["oracle"]})),
    )


def _decider(rules: Rules) -> Decide:
    return lambda world: decide(world, rules)


def _sources(world: World, deciders: Mapping[str, Decide], ledgers: Mapping[str, Ledger]) -> dict[str, Sources]:
    """By strategy; what it does without a source is settled with the source there, as what it does with it."""
    without = {name: _without(world, decider) for name, decider in deciders.items()}
    best = ledgers["oracle"].total_usd - without["oracle"][0].total_usd
    responses = _responses(world, deciders, ledgers)
    base = ledgers["break_even"].peak_load_mw
    found = {}
    for name, ledger in ledgers.items():
        no_reserves, no_peaks = without[name]
        gain = ledger.net_usd - no_reserves.net_usd
        month, month_usd = worst_month(world.cases[0], gain)
        saved = ledger.total_usd - no_peaks.total_usd
        charge = -no_peaks.parts()["peak_charge"]
        avoided = sum(mw < (1 - AVOIDED) * had for mw, had in zip(ledger.peak_load_mw, base, strict=True))
        found[name] = Sources(
            float(gain.sum()), float(gain.sum()) / best if best > 0 else None, month, month_usd,
            saved, saved / charge if charge > 0 else None, avoided, len(base),
            responses.get(name, 0.0), responses[name] / responses["oracle"] if responses.get("oracle", 0.0) > 0 else None,
        )  # fmt: skip
    return found


def _responses(world: World, deciders: Mapping[str, Decide], ledgers: Mapping[str, Ledger]) -> dict[str, float]:
    """Dollars that the programme brought, by strategy; empty where there is none."""
    if world.response is None:
        return {}
    plain = world.without(response=True)
    return {
        name: ledgers[name].total_usd - settle(plain, decider(plain)).total_usd for name, decider in deciders.items()
    }


def _without(world: World, decider: Decide) -> tuple[Ledger, Ledger]:
    """The ledgers of selling nothing, and of not seeing peaks."""
    unsold = decider(world.without(reserves=True))
    unsold = replace(unsold, sold=np.zeros_like(unsold.sold))
    return settle(world, unsold), settle(world, decider(world.without(peaks=True)))


def _notes(world: World, mw: float) -> tuple[str, ...]:
    notes = [f"$/MW-year are of {mw:g} MW of miners; values and jobs of AI work are made up"]
    if limits.binds(world.site):
        notes.append(f"not all load fits: {mw + world.site.most_ai_mw:.1f} MW under {_limits(world.site)}")
    if ramps.bind(world.site, world.step_h):
        up, down = world.site.ramp_up_mw_per_h, world.site.ramp_down_mw_per_h
        notes.append(
            f"load changes by at most {up * world.step_h:.1f} MW up, {down * world.step_h:.1f} MW down an interval"
        )
    missing = int((world.mcpc <= 0).sum())
    if missing:
        notes.append(f"{missing} hours have no capacity price: nothing can be sold in them")
    if world.response is not None:
        notes += _response_notes(world.response)
    return tuple(notes)


def _response_notes(response: Response) -> list[str]:
    terms = response.terms
    called = ", ".join(
        f"{instant(c.start_us):%Y-%m-%dT%H:%MZ} for {(c.end_us - c.start_us) / HOUR_US:g} h" for c in response.calls
    )
    return [
        f"{terms.programme}: {terms.mw:g} MW enrolled, told {terms.notice_minutes} minutes before; "
        f"${terms.capacity_usd_per_mw_month:,.0f} per MW and month, ${terms.energy_usd_per_mwh:,.0f} a MWh that is delivered, "
        f"${terms.penalty_usd_per_mwh:,.0f} a MWh that is missed"
        + (", and a month with a call that is not met is not paid" if terms.forfeits_month else ""),
        f"{len(response.calls)} calls{': ' if called else ''}{called}",
    ]


def _limits(site: MixedSite) -> str:
    feeders = [f"{limit:.1f} MW of miners behind {name}" for name, limit in site.feeder_limits_mw.items()]
    return ", ".join([f"{site.limit_mw:.1f} MW", *feeders])
