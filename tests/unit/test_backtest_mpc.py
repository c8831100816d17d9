"""The learnt strategy: it learns what there is to learn, from what came before, and a wrong one costs a bounded amount."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hindsight import TrainedTooLateError
from hcp_pipelines.optimizer import waiting
from hcp_pipelines.optimizer.backtest import folder, request
from hcp_pipelines.optimizer.backtest.account import account_of
from hcp_pipelines.optimizer.backtest.case import Known
from hcp_pipelines.optimizer.backtest.mpc import Mpc, lesson_of, outlook_of, trained
from hcp_pipelines.optimizer.backtest.oracle import optimum_usd
from hcp_pipelines.optimizer.backtest.run import data_notes, result_of
from hcp_pipelines.optimizer.backtest.series import SeriesError
from hcp_pipelines.optimizer.backtest.simulate import simulate
from hcp_pipelines.optimizer.backtest.strategies import BreakEven, Hysteresis, Oracle
from tests.support.recorded import DAY, plain_case, random_prices, write_folder

DAYS = 70
SPLIT = 40


@pytest.fixture
def fewer_trees(monkeypatch):
    fewer = {"max_iter": 40, "min_samples_leaf": 20, "learning_rate": 0.2}
    monkeypatch.setattr(waiting, "BAG", 1)
    monkeypatch.setattr(waiting, "TREES", waiting.TREES | fewer)


def told_by_the_day_ahead_price(days, model=Known.AT_START):
    """A day has one spell above break-even, of one interval or of six; the day-ahead price says which."""
    random, prices = np.random.default_rng(3), np.full(96 * days, 30.0)
    day_ahead = np.full(96 * days, 30.0)
    for day in range(days):
        at, is_long = 96 * day + int(random.integers(20, 70)), random.random() < 0.5
        prices[at : at + (6 if is_long else 1)] = 80.0
        day_ahead[96 * day : 96 * (day + 1)] = 55.0 if is_long else 30.0
    seen = prices if model is Known.AT_START else np.r_[np.nan, prices[:-1]]
    case = plain_case(prices, revenue=60.0, wake_usd=12.0, known=seen, model=model)
    return type(case)(**(case.__dict__ | {"day_ahead": day_ahead}))


def part(case, strategy, first):
    """Dollars of a strategy from a row on, over break_even and of the gap."""
    window = case.cut(first, len(case))
    schedule = simulate(window, strategy.strikes(case).cut(first), is_guarded=strategy.is_guarded)
    base = account_of(window, simulate(window, BreakEven().strikes(window))).total_usd
    return account_of(window, schedule).total_usd - base, optimum_usd(window.settled, window.step_h) - base


def test_it_learns_which_spells_are_worth_a_wake(fewer_trees):
    case = told_by_the_day_ahead_price(DAYS)
    strategy = trained([case.cut(0, 96 * SPLIT)], DAY + timedelta(days=SPLIT))
    gain, gap = part(case, strategy, 96 * SPLIT)
    best_band = max(part(case, Hysteresis(0.0, d), 96 * SPLIT)[0] for d in (0.0, 0.2, 0.4, 0.6, 1.0))
    assert gap > 100
    assert gain > 0.9 * gap
    assert gain > best_band + 0.2 * gap


def test_told_late_it_learns_when_not_to_follow(fewer_trees):
    case = told_by_the_day_ahead_price(DAYS, Known.AFTER)
    strategy = trained([case.cut(0, 96 * SPLIT)], DAY + timedelta(days=SPLIT))
    gain, _ = part(case, strategy, 96 * SPLIT)
    assert (
        gain > max(part(case, Hysteresis(u, d), 96 * SPLIT)[0] for u in (0.0, 0.3) for d in (0.0, 0.4, 1.0, 100.0)) + 50
    )


class Inverted:
    """The worst forecast: the opposite of what comes."""

    def __init__(self, came_to):
        self.came_to = came_to

    def predict(self, rows):
        return 1.0 - self.came_to[-len(rows) :]


def test_with_the_guard_even_an_inverted_forecast_costs_a_bounded_amount():
    case = told_by_the_day_ahead_price(DAYS)
    inverted = waiting.WaitingModel(Inverted(lesson_of(case).came_to), DAY)
    with_guard, _ = part(case, Mpc(inverted), 0)
    without, _ = part(case, Mpc(inverted, is_guarded=False), 0)
    assert with_guard > -2 * 12.0 * DAYS  # two wakes an event, and there is one a day
    assert without < 20 * with_guard  # it never wakes


def test_it_learns_without_any_day_ahead_price(fewer_trees):
    case = told_by_the_day_ahead_price(DAYS)
    without = type(case)(**(case.__dict__ | {"day_ahead": np.full(len(case), np.nan)}))
    strategy = trained([without.cut(0, 96 * SPLIT)], DAY + timedelta(days=SPLIT))
    (gain, gap), (told_later, _) = (part(each, strategy, 96 * SPLIT) for each in (without, case))
    assert abs(gain) < 0.5 * gap  # nothing tells it which spells are long
    assert told_later > gain - 0.1 * gap  # a curve that it never saw in training does no harm


def test_the_same_lessons_give_the_same_model(fewer_trees):
    case = told_by_the_day_ahead_price(20)
    one, two = (trained([case], DAY).model.predict(outlook_of(case)) for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_without_anything_to_learn_from_it_says_what_to_do():
    with pytest.raises(ConfigError, match=r"mpc has nothing to learn from.*leave mpc out"):
        trained([], DAY)


def test_a_strategy_that_was_trained_past_the_start_is_refused():
    case = plain_case(random_prices(96))
    late = Hysteresis(trained_until=DAY + timedelta(hours=1))
    with pytest.raises(
        TrainedTooLateError,
        match=r"hysteresis was trained until 2024-03-01T01:00Z, past the window's start at 2024-03-01T00:00Z",
    ):
        result_of(case, DAY, [BreakEven(), late, Oracle()])
    on_time = Hysteresis(trained_until=DAY)
    assert set(result_of(case, DAY, [BreakEven(), on_time, Oracle()]).accounts) == {
        "break_even",
        "hysteresis",
        "oracle",
    }


def asked(path, **changes):
    start, end = DAY + timedelta(days=30), DAY + timedelta(days=40)
    return request.Request(folder.Sources(path, point="HB_TEST"), start, end, **changes)


def test_nothing_after_the_training_ends_is_in_its_cases(tmp_path):
    write_folder(tmp_path, random_prices(96 * 40))
    until = DAY + timedelta(days=20)
    cases = request.training_cases(
        asked(tmp_path, train_until=until),
        folder.load(asked(tmp_path).sources, asked(tmp_path).start, asked(tmp_path).end),
    )
    assert {case.efficiency_j_per_th for case in cases} == set(request.TRAINING_EFFICIENCIES_J_PER_TH)
    assert all(len(case) == 96 * 20 for case in cases)


def test_other_points_are_learnt_from_too_and_cut_at_the_same_instant(tmp_path):
    write_folder(tmp_path, random_prices(96 * 40))
    frame = pl.read_parquet(tmp_path / "prices.parquet")
    other = frame.with_columns(settlement_point=pl.lit("HB_OTHER"))
    pl.concat([other[:2000], other[2100:]]).write_parquet(tmp_path / "other.parquet")
    recorded = folder.load(asked(tmp_path).sources, asked(tmp_path).start, asked(tmp_path).end)
    lengths = sorted({len(case) for case in request.training_cases(asked(tmp_path), recorded)})
    assert lengths == [2000, 96 * 30]  # the stretch after the gap is shorter than two weeks


def test_what_the_point_has_before_a_long_gap_is_learnt_from_too(tmp_path):
    write_folder(tmp_path, random_prices(96 * 40))
    frame = pl.read_parquet(tmp_path / "prices.parquet")
    pl.concat([frame[:1500], frame[1600:]]).write_parquet(tmp_path / "prices.parquet")
    for sources in (
        asked(tmp_path).sources,
        folder.Sources(None, tmp_path / "prices.parquet", None, tmp_path / "network.parquet", "HB_TEST"),
    ):
        wanted = replace(asked(tmp_path), sources=sources, start=DAY + timedelta(days=35))
        recorded = folder.load(sources, wanted.start, wanted.end)
        assert sorted({len(case) for case in request.training_cases(wanted, recorded)}) == [1500, 96 * 35 - 1600]


def test_a_hole_in_hashprice_before_the_window_is_carried_over_and_told_and_one_in_it_is_refused(tmp_path):
    write_folder(tmp_path, random_prices(96 * 40))
    days = pl.read_parquet(tmp_path / "network.parquet").with_columns(
        hashprice_usd_per_ph_per_day_derived=pl.col("date_utc").dt.ordinal_day().cast(pl.Float64)
    )
    of_march = pl.col("date_utc").dt.date().cast(pl.String)
    wanted = asked(tmp_path, is_hashprice_same_day=True)
    days.filter(~of_march.is_in(["2024-03-10", "2024-03-11"])).write_parquet(tmp_path / "network.parquet")
    recorded = folder.load(wanted.sources, wanted.start, wanted.end)
    told = "no hashprice of 2 days before the window: that of the last day before them is carried on"
    assert data_notes(wanted, recorded) == [told]
    case, per_hashprice = request.case_of(wanted, recorded, 17.5), 1000 / 17.5 / 24
    of_days = case.settled.revenue_usd_per_mwh[::96] / per_hashprice
    assert of_days[8:12] == pytest.approx([69, 69, 69, 72])
    assert len(request.training_cases(wanted, recorded)[0]) == 96 * 30
    days.filter(of_march != "2024-04-02").write_parquet(tmp_path / "network.parquet")
    with pytest.raises(SeriesError, match=r"no hashprice.* of 2024-04-02"):
        request.case_of(wanted, folder.load(wanted.sources, wanted.start, wanted.end), 17.5)


def command(path, start, end):
    return [*(["backtest", "--point", "HB_TEST", "--json", "--prices"]), str(path), "--from", start, "--to", end]


def test_the_command_trains_reports_and_refuses(tmp_path, fewer_trees):
    write_folder(tmp_path, random_prices(96 * 60))
    arguments = command(tmp_path, "2024-04-10", "2024-04-30")
    one = ["--efficiency-j-per-th", "17.5", "--strategy", "mpc"]
    done = CliRunner().invoke(cli, [*arguments, *one], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert set(report["strategies"]) == {"break_even", "mpc", "oracle"}
    assert report["notes"][0] == "learnt from 40 days of prices before 2024-04-10, all points together"
    with pytest.raises(TrainedTooLateError, match="--train-until"):
        CliRunner().invoke(cli, [*arguments, *one, "--train-until", "2024-04-11"], catch_exceptions=False)


def test_without_history_mpc_is_left_out_unless_it_was_asked_for(tmp_path):
    write_folder(tmp_path, random_prices(96 * 12))
    arguments = command(tmp_path, "2024-03-01", "2024-03-12")
    report = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)
    assert "mpc" not in report["mean_gap_closed"]
    assert "mpc is left out" in report["notes"][0]
    with pytest.raises(ConfigError, match="mpc has nothing to learn from"):
        CliRunner().invoke(cli, [*arguments, "--strategy", "mpc"], catch_exceptions=False)
    assert datetime(2024, 3, 1, tzinfo=UTC) == DAY
