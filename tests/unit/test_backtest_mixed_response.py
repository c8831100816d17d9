"""Demand response in the back-test: who is enrolled, when it is called, whether that was met, who obeys, and what it pays."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
import yaml

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.backtest import folder
from hcp_pipelines.optimizer.backtest.mixed import foresight, page, report
from hcp_pipelines.optimizer.backtest.mixed.foresight import foresee
from hcp_pipelines.optimizer.backtest.mixed.ledger import settle
from hcp_pipelines.optimizer.backtest.mixed.response.calls import enrolled_site
from hcp_pipelines.optimizer.backtest.mixed.response.choosing import worth_most
from hcp_pipelines.optimizer.backtest.mixed.response.obeying import paid_calls
from hcp_pipelines.optimizer.backtest.mixed.response.terms import given_terms, load_terms
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, decide
from hcp_pipelines.optimizer.backtest.mixed.run import refuse_bound, report_of, with_programme
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW
from hcp_pipelines.optimizer.backtest.mixed.world import Actions
from hcp_pipelines.optimizer.backtest.record import Run, mixed_rows
from hcp_pipelines.optimizer.backtest.request import Request
from tests.support.mixed import SITE, START, called, responding, terms, world

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
RULES = {rules.name: rules for rules in ALL_RULES}
CALL_ROWS = slice(4 * 39, 4 * 42)  # the second day from 15 to 18 h


def done_by(name, here):
    return settle(here, foresee(here) if name == "oracle" else decide(here, RULES[name]))


def test_the_worst_earners_are_enrolled_in_groups_of_their_own():
    site = enrolled_site(MIXED_100MW, terms(mw=30.0))
    assert [(g.name, g.mw, g.is_enrolled) for g in site.groups] == [
        ("hydro", 30.0, False), ("air", 30.0, False), ("air enrolled", 10.0, True), ("old enrolled", 20.0, True),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"90\.5 MW are enrolled, there are 90 MW of miners"):
        enrolled_site(MIXED_100MW, terms(mw=90.5))


@pytest.mark.parametrize(
    ("off", "read_mw", "is_met", "short"),
    [
        (1.0, 20.0, True, 0.0),
        (0.95, 20.0, True, 0.0),
        (0.94, 20.0, False, 0.06),
        (0.0, 20.0, False, 1.0),
        (1.0, 10.0, False, 0.5),  # half of it slept as the meter was read
    ],
)
def test_a_call_is_met_paid_and_charged_by_hand(off, read_mw, is_met, short):
    here = called(39)
    power = np.ones((2, len(here)))
    power[1, : CALL_ROWS.start] = read_mw / 20.0
    power[1, CALL_ROWS] = (1 - off) * read_mw / 20.0
    nothing = np.zeros((2, len(here)))
    ledger = settle(here, Actions(power, nothing, np.zeros((2, 240)), nothing, nothing))
    delivered_mwh = 3 * off * read_mw
    capacity = 20.0 * 3000.0 * 10 / 31 if is_met else 0.0  # ten days of January
    assert ledger.parts()["response"] == pytest.approx(capacity + 40.0 * delivered_mwh)
    assert ledger.parts()["response_penalty"] == pytest.approx(-500.0 * 60 * short)
    assert (ledger.calls, ledger.calls_met) == (1, int(is_met))


def test_one_bad_quarter_of_an_hour_is_a_missed_call():
    here = called(39)
    power = np.ones((2, len(here)))
    power[1, CALL_ROWS] = 0.0
    power[1, CALL_ROWS.stop - 1] = 1.0
    nothing = np.zeros((2, len(here)))
    ledger = settle(here, Actions(power, nothing, np.zeros((2, 240)), nothing, nothing))
    assert ledger.calls_met == 0
    assert ledger.parts()["response_penalty"] == pytest.approx(-500.0 * 60)


def test_who_reads_low_as_the_call_is_deployed_has_no_load_to_give():
    """Down too early: what is read is the lower of the samples before and after the deployment."""
    here = called(39)
    for rows, is_met in ((slice(152, 168), False), (slice(155, 168), True)):  # deployed at 38:15, row 153
        power = np.ones((2, len(here)))
        power[1, rows] = 0.0
        nothing = np.zeros((2, len(here)))
        ledger = settle(here, Actions(power, nothing, np.zeros((2, 240)), nothing, nothing))
        assert bool(ledger.calls_met) is is_met


def test_always_on_misses_field_obeys_and_mpc_goes_by_dollars():
    here = called(39)
    for name, is_met in (("always_on", False), ("field", True), ("mpc", True), ("oracle", True)):
        assert bool(done_by(name, here).calls_met) is is_met, name
    cheap = called(39, penalty_usd_per_mwh=0.0, capacity_usd_per_mw_month=0.0, energy_usd_per_mwh=1.0)
    assert paid_calls(cheap, cheap.response) == []
    assert done_by("field", cheap).calls_met == 1
    asked = decide(here, RULES["mpc"]).power[1]
    assert asked[here.response.calls[0].hold : CALL_ROWS.start].tolist() == [1.0] * 4
    assert not asked[CALL_ROWS].any()


def test_a_month_that_is_lost_is_not_defended():
    """The second call of a month pays by its capacity alone: worth it, as long as the first was not let go."""
    rich = {"penalty_usd_per_mwh": 0.0, "energy_usd_per_mwh": 0.0, "capacity_usd_per_mw_month": 400.0}
    here = called(39, 63, **rich)
    assert len(paid_calls(here, here.response)) == 2
    first = here.response.calls[0]
    dear = [replace(case, day_ahead=np.full(len(here), -1000.0)) for case in here.cases]  # mining pays 1,045 $/MWh
    for case in dear:
        case.day_ahead[first.end :] = 30.0
    assert paid_calls(replace(here, cases=tuple(dear)), here.response) == []
    kept = called(39, 63, forfeits_month=False, **rich)
    assert paid_calls(kept, kept.response) == []


FEW, MANY = (16, 39, 63), (15, 39, 64, 87, 111, 137)
DEFENDED = {"penalty_usd_per_mwh": 60.0, "capacity_usd_per_mw_month": 300.0}
ENERGY_ALONE = {"penalty_usd_per_mwh": 0.0, "capacity_usd_per_mw_month": 0.0, "energy_usd_per_mwh": 20.0}


@pytest.mark.parametrize(
    ("hours", "seed", "paid", "met"),
    [
        (FEW, 0, DEFENDED, 3),
        (FEW, 1, DEFENDED, 3),
        (FEW, 2, DEFENDED, 3),
        (MANY, 2, DEFENDED, 6),
        (MANY, 2, ENERGY_ALONE, 2),
    ],
)
def test_nothing_beats_foresight_not_any_choice_of_calls(hours, seed, paid, met):
    here = called(*hours, seed=seed, charges=(40, 100), **paid)
    oracle, calls = done_by("oracle", here), here.response.calls
    best, cost = oracle.total_usd, here.settled_price + np.repeat(here.charge, here.steps)
    assert oracle.calls_met == met
    assert all(done_by(name, here).total_usd <= best + 1e-6 for name in RULES)
    plain = foresee(replace(here, response=replace(here.response, calls=())))
    found = []
    for chosen in chain.from_iterable(combinations(calls, n) for n in range(len(calls) + 1)):
        power, sold = foresight._planned(here, cost, [1], (plain.power, plain.sold), chosen, slice(0, 240))
        done = foresight._actions(power, sold, plain.inference_mw, plain.training_mw)
        found.append(settle(here, done).total_usd)
    assert best == pytest.approx(max(found), abs=1e-6)


def test_who_earns_by_some_of_many_calls_is_no_better_than_foresight():
    """Eight a month for energy alone: half of them at prices at which mining on is worth more."""
    starts = [24 * day + 15 for day in range(1, 9)]
    here = called(*starts, **ENERGY_ALONE | {"energy_usd_per_mwh": 40.0, "most_calls_a_season": 8})
    price = np.full(len(here), 20.0)
    for n, hour in enumerate(starts):
        price[4 * hour - 4 : 4 * hour + 12] = 44.0 if n % 2 else -30.0
    cases = [
        replace(
            case, day_ahead=price, **{
                name: replace(getattr(case, name), price_usd_per_mwh=price) for name in ("known", "settled")
            }
        )
        for case in here.cases
    ]  # fmt: skip
    here = replace(here, cases=tuple(cases), mcpc=np.zeros(240))
    found = {name: done_by(name, here) for name in ("field", "mpc", "oracle")}
    assert {name: ledger.calls_met for name, ledger in found.items()} == {"field": 8, "mpc": 4, "oracle": 4}
    assert found["oracle"].total_usd >= found["mpc"].total_usd > found["field"].total_usd


@pytest.mark.parametrize(
    ("together_usd", "best"),
    [
        ({}, "abc"),
        ({"abcdef": 13}, "abcdef"),  # a month's capacity
        ({"ab": -8}, "ac"),  # each is worth it, both are not
        ({"de": 8}, "abcde"),  # neither is, both are
    ],
)
def test_of_many_calls_those_are_obeyed_that_are_worth_most_together(together_usd, best):
    alone_usd = dict(zip("abcdef", (6, 5, 2, -3, -4, -5), strict=True))

    def usd(choice):
        return sum(alone_usd[call] for call in choice) + sum(
            more for those, more in together_usd.items() if set(those) <= set(choice)
        )

    assert "".join(worth_most("abcdef", usd)) == best


def test_what_may_be_called_is_sold_to_nobody_else():
    here = called(39)
    available = here.response.is_available
    assert available.sum() == 10 * 8
    for name in ("field", "mpc", "oracle"):
        done = foresee(here) if name == "oracle" else decide(here, RULES[name])
        assert not done.sold[1, available].any(), name
        assert done.sold[1, ~available].any(), name
        assert done.sold[0, available].any(), name
        assert settle(here, done).parts()["reserve_shortfall"] == 0, name


PINNED_USD = {  # before there was demand response
    "always_on": -863_403.98, "break_even": -142_218.14, "hysteresis": -341_831.03, "field": 831_218.24,
    "oracle": 1_185_691.39,
}  # fmt: skip


def test_without_a_programme_dollars_are_to_the_cent_what_they_were():
    here = world(seed=3, charges=(40, 100))
    assert {name: round(done_by(name, here).total_usd, 2) for name in PINNED_USD} == PINNED_USD
    split = responding(here, terms(calls={"chosen": "list", "starts": []}, months=[7]))
    for name in (*RULES, "oracle"):
        assert done_by(name, split).net_usd.tobytes() == done_by(name, here).net_usd.tobytes(), name


def test_days_are_called_where_day_ahead_prices_are_dear_or_as_a_seed_draws_them():
    here = world(days=10)
    day_ahead = np.full(960, 30.0)
    for day, hour, usd in (
        (1, 14, 300.0),
        (2, 14, 300.0),
        (3, 14, 99.0),
        (5, 9, 900.0),
        (6, 17, 200.0),
        (8, 14, 300.0),
    ):
        day_ahead[96 * day + 4 * hour : 96 * day + 4 * hour + 12] = usd
    here = replace(here, cases=tuple(replace(case, day_ahead=day_ahead) for case in here.cases))
    dear = {"chosen": "dear_days", "least_usd_per_mwh": 100}

    def starts(**more):
        return [call.start // 4 for call in responding(here, terms(**more)).response.calls]

    assert starts(calls=dear) == [24 + 14, 48 + 14, 144 + 17, 192 + 14]
    assert starts(calls=dear, recovery_hours=24) == [24 + 14, 144 + 17, 192 + 14]
    assert starts(calls=dear, most_calls_a_season=2) == [24 + 14, 48 + 14]
    assert starts(calls=dear, months=[2]) == []
    drawn = {"chosen": "drawn_days", "seed": 5, "dearest_fraction": 0.4}
    assert starts(calls=drawn) == starts(calls=drawn)
    assert {each // 24 for each in starts(calls=drawn)} == {1, 2, 6, 8}
    assert len(starts(calls=drawn, most_calls_a_season=2)) == 2
    lengths = {
        call.end - call.start
        for seed in range(8)
        for call in responding(here, terms(calls=drawn | {"seed": seed})).response.calls
    }
    assert lengths == {4, 8, 12}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"notice_minutes": 20}, "notice_minutes 20: who is asleep can't be on as the meter is read"),
        ({"starts": [39.5]}, "does not begin at a full hour"),
        ({"starts": [8]}, "is not within the hours from 13 to 21 of months 1"),
        (
            {"starts": [38, 42], "recovery_hours": 2},
            r"02T18:00Z comes too soon after the one before, which ends at 2024-03-02T17:00Z: recovery_hours is 2,.*"
            r"response_minutes 45 before a call begins; from 2024-03-02T19:00Z on it would do",
        ),
        ({"starts": [38, 41], "recovery_hours": 0}, "recovery_hours is 0.*from 2024-03-02T18:00Z on it would do"),
        ({"starts": [39, 39]}, "comes too soon"),
        ({"starts": [39, 63], "most_calls_a_season": 1}, "03T15:00Z is one more than most_calls_a_season, 1"),
        ({"most_calls_a_season": 0}, "02T15:00Z is one more than most_calls_a_season, 0"),
    ],
)
def test_calls_that_the_terms_do_not_allow_are_refused(change, told):
    starts = change.pop("starts", [39])
    with pytest.raises(ConfigError, match=told):
        called(*starts, **change)


@pytest.mark.parametrize(("response_minutes", "gap_hours"), [(15, 1), (45, 1), (50, 1), (60, 2), (90, 2), (105, 2)])
def test_the_soonest_call_that_may_follow_can_be_met(response_minutes, gap_hours):
    """Miners that slept through the one before are on again as its baseline is read."""
    loose = {"recovery_hours": 0, "response_minutes": response_minutes}
    here = called(37, 40 + gap_hours, **loose)
    assert done_by("field", here).calls_met == 2
    assert done_by("field", here).parts()["response_penalty"] == 0
    with pytest.raises(ConfigError, match="comes too soon"):
        called(37, 39 + gap_hours, **loose)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mw": 0}, "mw: Input should be greater than 0"),
        ({"to_hour": 15}, "longest_hours 3 don't fit between from_hour 13 and to_hour 15"),
        ({"notice_minutes": 600}, "are more than 10 hours together"),
        ({"calls": {"chosen": "whim"}}, "calls: Input tag 'whim'"),
        ({"penalty": 3}, "penalty: Extra inputs are not permitted"),
        ({"months": [13]}, "months.0: Input should be less than or equal to 12"),
    ],
)
def test_what_is_wrong_in_a_file_of_terms_is_named(tmp_path, change, told):
    path = tmp_path / "terms.yaml"
    path.write_text(yaml.safe_dump(json.loads(terms().model_dump_json()) | change))
    with pytest.raises(ConfigError, match=told):
        load_terms(path)
    with pytest.raises(ConfigError, match=rf"response.*{told}"):
        given_terms(json.loads(terms().model_dump_json()) | change)


def test_terms_of_a_run_s_configuration_are_those_of_a_file():
    assert given_terms({}) is None
    assert given_terms(yaml.safe_load((EXAMPLES / "response.yaml").read_text())) == load_terms(
        EXAMPLES / "response.yaml"
    )


@pytest.mark.parametrize("change", [{"limit_mw": 45.0}, {"ramp_up_mw_per_h": 100.0}, {"ramp_down_mw_per_h": 100.0}])
def test_limits_and_ramps_that_bind_are_refused(change):
    wide = replace(SITE, limit_mw=62.0, ramp_up_mw_per_h=248.0, ramp_down_mw_per_h=248.0)
    refuse_bound(wide, 0.25)
    with pytest.raises(ConfigError, match="this site's limits or ramps don't let it"):
        refuse_bound(replace(wide, **change), 0.25)


def test_the_report_the_page_and_the_lake_have_it(tmp_path):
    here = called(39, 63, charges=(100,), days=30)
    found = report_of(Request(folder.Sources(tmp_path), START, START + timedelta(days=30)), here, {})
    told = json.loads(json.dumps(report.as_dict(found)))
    field, always = (told["strategies"][name]["response"] for name in ("field", "always_on"))
    assert (field["calls_met"], field["calls"], always["calls_met"]) == (2, 2, 0)
    assert always["usd"] == told["strategies"]["always_on"]["parts_usd"]["response_penalty"] == -60_000.0
    assert told["strategies"]["oracle"]["response"]["share_of_oracle"] == 1.0
    assert 0 < told["strategies"]["mpc"]["response"]["usd"] != told["strategies"]["mpc"]["parts_usd"]["response"]
    assert any(note.startswith("2 calls: 2024-03-02T15:00Z for 3 h, ") for note in told["notes"])
    assert "the programme brought $" in " ".join(report.summary(found))
    assert "response_penalty" in page.html(found, "in a programme")
    rows = {row["strategy"]: row for row in mixed_rows(found, Run("run-1", "mixed", START))}
    assert (rows["field"]["calls_met"], rows["field"]["calls"]) == (2, 2)
    assert rows["always_on"]["response_penalty_usd"] == pytest.approx(-60_000.0)
    assert with_programme(here, here.response.terms).response.calls == here.response.calls
