"""A mixed facility: one ledger, rules that do as told, an oracle that nothing beats."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.optimizer.ai_work import SyntheticWork, whole_days
from hcp_pipelines.optimizer.backtest import folder
from hcp_pipelines.optimizer.backtest.mixed import page, report
from hcp_pipelines.optimizer.backtest.mixed.foresight import foresee
from hcp_pipelines.optimizer.backtest.mixed.ledger import KINDS, settle
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, decide
from hcp_pipelines.optimizer.backtest.mixed.run import report_of
from hcp_pipelines.optimizer.backtest.mixed.world import Actions
from hcp_pipelines.optimizer.backtest.request import Request
from hcp_pipelines.optimizer.programme import Group, Horizon, Mode, SiteProgramme, SiteSpec, Start, Training
from tests.support.mixed import SITE, START, world

RULES = {rules.name: rules for rules in ALL_RULES}
PEAKS = (40, 100)


def done_by(name, here):
    return settle(here, foresee(here) if name == "oracle" else decide(here, RULES[name]))


def test_the_ledger_adds_up_by_hand():
    here = world(days=1, charges=(15,))
    full, eco = np.ones((2, 96)), np.zeros((2, 96))
    full[0, 60:64] = 0.0  # the hour of the peak
    full[1], eco[1] = 0.0, 1.0
    sold = np.zeros((2, 24))
    sold[0, 15] = sold[1, 3] = 0.5
    nothing = np.zeros((2, 96))
    parts = settle(here, Actions(full, eco, sold, nothing, nothing)).parts()
    price = here.settled_price
    assert parts["mining"] == pytest.approx(30 * 70 * 23 + 20 * 0.86 * 45 * 24)
    assert parts["energy"] == pytest.approx(-0.25 * float((price * (30 * full[0] + 16)).sum()))
    assert parts["switching"] == pytest.approx(-30 * (12 + 70 / 6))
    assert parts["reserves"] == pytest.approx(15 * here.mcpc[15] + 10 * here.mcpc[3])
    assert parts["reserve_shortfall"] == 0  # 15 MW sold, 16 MW of the other group are on
    assert parts["peak_charge"] == pytest.approx(-16_250 * 16)
    assert settle(here, Actions(nothing, nothing, sold, nothing, nothing)).parts()[
        "reserve_shortfall"
    ] == pytest.approx(-15_000 * 25)


def test_work_that_is_not_done_by_midnight_misses_its_deadline():
    here = world(days=2)
    nothing = np.zeros((2, 192))
    training = nothing.copy()
    training[0, :16] = 3.0
    training[1, 32:43] = 3.0  # a quarter of an hour short
    done = settle(here, Actions(np.ones((2, 192)), nothing, np.zeros((2, 48)), nothing, training))
    assert (done.deadlines_missed, done.jobs) == (3, 4)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_beats_the_oracle(seed):
    here = world(seed=seed, charges=PEAKS)
    best = done_by("oracle", here).total_usd
    assert all(done_by(name, here).total_usd <= best + 1e-6 for name in RULES)


@pytest.mark.parametrize("seed", range(3))
def test_the_oracle_is_the_linear_programmes_optimum(seed):
    here = world(days=4, seed=seed, charges=(40,))
    hours = np.full(len(here), here.step_h)
    groups = tuple(
        Group(g.name, g.mw, (Mode("eco", 0.8, 0.0, 0.86 * r), Mode("full", 1.0, 0.0, r)), wake_usd=12 + r / 6)
        for g, r in zip(SITE.groups, (70.0, 45.0), strict=True)
    )
    jobs = tuple(
        Training(
            f"{job.name}-{n}",
            job.work_mwh,
            d.start * 4 + job.release_hour * 4,
            d.stop * 4,
            job.most_mw,
            job.usd_per_mwh,
        )
        for job in SITE.ai.daily
        for n, d in enumerate(whole_days(here.ahead))
    )
    spec = SiteSpec(
        groups, reserves=("best",), gpu_mw=50.0, training_slots=len(jobs),
        inference_usd_per_mwh=tuple(each.usd_per_mwh for each in SITE.ai.classes),
    )  # fmt: skip
    horizon = Horizon.of(
        here.settled_price, adder_usd_per_mwh=np.repeat(here.charge, 4), mcpc_usd_per_mw_h=np.repeat(here.mcpc, 4)[None],
        demand_mw=here.inference.mw, training=jobs,
    )  # fmt: skip
    plan = SiteProgramme(spec, hours).solve(horizon, Start(np.array([30.0, 20.0])))
    paid = sum(job.work_mwh * job.penalty_usd_per_mwh for job in jobs)
    assert done_by("oracle", here).total_usd == pytest.approx(plan.net_usd + paid, rel=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_sold_is_on_and_every_deadline_is_met(seed):
    here = world(seed=seed, charges=PEAKS)
    for name in (*RULES, "oracle"):
        ledger = done_by(name, here)
        assert ledger.parts()["reserve_shortfall"] == 0, name
        assert (ledger.deadlines_missed, ledger.jobs) == (0, 20), name


def test_the_rules_differ_as_they_say():
    here = world(charges=PEAKS)
    plain, field, clever = (decide(here, RULES[name]) for name in ("break_even", "field", "mpc"))
    assert plain.sold.sum() == 0
    assert (field.sold[:, ~here.plain_peak] == 1).all()
    assert (field.power[:, np.repeat(here.plain_peak, 4)] == 0).all()
    assert 0 < clever.sold.sum() < field.sold.sum()
    assert set(np.unique(clever.power)) == {0.0, 0.8, 1.0}
    assert set(np.unique(plain.power)) <= {0.0, 1.0}
    assert clever.power[:, 4 * PEAKS[0] : 4 * PEAKS[0] + 4].sum() == 0


def test_the_report_has_every_source(tmp_path):
    here = world(days=40, charges=PEAKS)
    asked = Request(folder.Sources(tmp_path), START, START + timedelta(days=40))
    found = report_of(asked, here, {})
    told = json.loads(json.dumps(report.as_dict(found)))
    mpc = told["strategies"]["mpc"]
    assert set(mpc["parts_usd"]) == set(KINDS)
    assert mpc["net_usd"] == pytest.approx(sum(mpc["parts_usd"].values()), abs=0.1)
    assert told["strategies"]["oracle"]["reserves"]["share_of_oracle"] == 1.0
    assert mpc["curtailed_mwh"] > 0 < mpc["switches_per_device_day"]
    assert mpc["worst_day"]["usd"] * 40 < mpc["net_usd"]
    assert mpc["peaks"]["avoided"] == mpc["peaks"]["peaks"] == 2
    assert told["strategies"]["break_even"]["peaks"]["avoided"] == 0
    assert told["strategies"]["field"]["field_gap"]["share"] == 0.0
    assert (told["granularity_min"], told["gap_closed"]["break_even"], told["gap_closed"]["oracle"]) == (15, 0.0, 1.0)
    assert told["gap_closed"]["mpc"] == told["strategies"]["mpc"]["gap"]["share"]
    assert len(list(report.rows_of(found))) == 6
    assert all(len(row) == len(report.COLUMNS) for row in report.rows_of(found))
    assert "reserves' worst month" in " ".join(report.summary(found))
    assert "<h1>of a facility</h1>" in page.html(found, "of a facility")


def test_without_a_source_nothing_is_sold_or_feared():
    here = world(charges=PEAKS)
    dull = here.without(reserves=True, peaks=True)
    assert decide(dull, RULES["mpc"]).sold.sum() == 0
    assert (decide(here.without(peaks=True), RULES["field"]).sold == 1).all()
    assert settle(dull, foresee(dull)).parts()["peak_charge"] == 0
    assert replace(dull, mcpc=here.mcpc).mcpc is here.mcpc


def test_a_site_of_miners_alone_has_no_ai_work():
    here = replace(world(charges=PEAKS), site=replace(SITE, ai=SyntheticWork()))
    best = done_by("oracle", here)
    assert best.parts()["training"] == best.parts()["inference"] == best.jobs == 0
    assert all(done_by(name, here).total_usd <= best.total_usd + 1e-6 for name in RULES)
