"""A mixed facility's forecasts and strategies look not ahead: what was not known is shuffled or blanked, and all stays."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.forecasting import peak_days, peak_paths, peaks
from hcp_pipelines.forecasting.hindsight import TrainedTooLateError, refuse_hindsight
from hcp_pipelines.forecasting.hours import instant
from hcp_pipelines.optimizer.backtest.case import Course, Known
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed import learning, ramps, reserves
from hcp_pipelines.optimizer.backtest.mixed.response.obeying import Obeys, paid_calls
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, Reserves, decide
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW
from hcp_pipelines.optimizer.backtest.request import Request
from hcp_pipelines.optimizer.backtest.simulate import Strikes
from tests.support.mixed import called, hourly_grid, world

DRAWS = 50
DAYS = 9
STARTS = (datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 10, 28, tzinfo=UTC), datetime(2024, 6, 24, tzinfo=UTC))


class EveryColumn:
    """A model that notices each column of each row."""

    def predict(self, rows):
        return 1.0 + np.nan_to_num(rows.astype(np.float64), nan=0.37) @ np.sin(np.arange(rows.shape[1]) + 1.0) % 1.0

    def predict_proba(self, rows):
        return np.column_stack([self.predict(rows), self.predict(rows)])


def changed(values, unknown, how, random):
    """Shuffled among themselves, or missing, where they are not known yet."""
    out = values.copy()
    out[..., unknown] = random.permutation(values[..., unknown], axis=-1) if how == "shuffle" else np.nan
    return out


def grids(how, shift_h=0):
    """(row, whole, changed, day-ahead prices of both): at the row's beginning nothing of what differs was known."""
    random = np.random.default_rng(1)
    for n in range(DRAWS):
        whole = hourly_grid(24 * DAYS, STARTS[n % 3] + timedelta(hours=shift_h), seed=n)
        t = int(random.integers(48, 24 * DAYS - 1))
        later, unpublished = np.arange(len(whole)) >= t, whole.ahead_rows >= t
        day_ahead = random.uniform(10, 90, len(whole))
        other = replace(
            whole, load_mw=changed(whole.load_mw, later, how, random), mcpc=changed(whole.mcpc, unpublished, how, random),
            forecast_mw=changed(whole.forecast_mw, unpublished, how, random),
            temperature_c=changed(whole.temperature_c, later, how, random),
        )  # fmt: skip
        yield t, whole, other, (day_ahead, changed(day_ahead, unpublished, how, random))


@pytest.mark.parametrize("how", ["shuffle", "blank"])
def test_probabilities_of_peaks_and_what_is_forgone(how, monkeypatch):
    monkeypatch.setattr(peaks, "NEAR", 2.0)  # every hour is a candidate: nothing hides behind the filter
    model = peaks.PeakModel(EveryColumn(), STARTS[0])
    forgone = reserves.ForgoneModel(EveryColumn(), EveryColumn(), STARTS[0])
    for t, whole, other, prices in grids(how):
        rows = np.arange(24, len(whole))
        published = rows[whole.ahead_rows[rows] < t]

        def seen(hours, day_ahead, t=t, rows=rows, published=published):
            now = model.probability(hours, np.arange(len(hours)), rows[rows <= t])
            ahead = model.probability(hours, hours.ahead_rows, published)
            plain = learning.plain_peaks(hours, published, np.ones(len(published), dtype=bool))
            lost = learning.forgone_by_worth(
                forgone, hours, day_ahead, published, [np.full(len(published), 50.0)], ahead * 90.0
            )
            return [now, ahead, plain, lost]

        for one, two in zip(seen(whole, prices[0]), seen(other, prices[1]), strict=True):
            assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("how", ["shuffle", "blank"])
def test_chances_that_are_counted_over_paths(how):
    season = hourly_grid(24 * 300, datetime(2023, 3, 1, 6, tzinfo=UTC))
    learnt = {m: peak_paths.trained(peak_days.days_of(season, season.forecast_mw), m) for m in (6, 10)}
    asked = 0
    for t, whole, other, _ in grids(how, 6):  # highest at 15 h in Texas
        month = 6 if whole.month_of_year[t] in (6, 7) else 10
        one, two = (peak_days.days_of(each, each.forecast_mw) for each in (whole, other))
        for row in range(t - 20, t + 1):
            at = int(np.searchsorted(one.number, whole.day[row])), int(whole.local_hour[row])
            for later in (0, 1, 4):
                chances = [learnt[month].chance(days, *at, later) for days in (one, two)]
                assert np.array(chances[:1]).tobytes() == np.array(chances[1:]).tobytes()
                asked += chances[0] > 0
    assert asked > DRAWS


def test_reading_a_day_too_early_would_be_noticed(monkeypatch):
    monkeypatch.setattr(peaks, "NEAR", 2.0)
    model, caught = peaks.PeakModel(EveryColumn(), STARTS[0]), 0
    for t, whole, other, _ in grids("shuffle"):
        early = np.arange(len(whole)) + 3  # three hours of demand that has not been yet
        rows = np.arange(24, t + 1)
        one, two = (model.probability(hours, early, rows) for hours in (whole, other))
        caught += one.tobytes() != two.tobytes()
    assert caught > DRAWS / 2


@pytest.mark.parametrize("start", STARTS)
def test_a_day_s_figures_are_known_when_the_clock_in_texas_shows_half_past_one(start):
    hours = hourly_grid(24 * DAYS, start)
    for row in range(48, len(hours)):
        last = int(hours.ahead_rows[row]) - 1
        assert hours.local_hour[last] == 12
        assert hours.day[last] == hours.day[row] - 1


def world_pair(n, how, model):
    """(interval, hours that are published by then, two worlds): one, and what is not known by then changed; settled all of it."""
    random = np.random.default_rng(n)
    whole, t = world(seed=n, model=model, charges=random.integers(0, 240, 3)), int(random.integers(96, 900))
    soon = np.where(whole.charge > 0, random.uniform(0, 0.3, (6, 240)), 0.0)  # an hour to six hours before
    whole, h = replace(whole, p_peak_soon=soon), t // 4
    later, hours_later = np.arange(len(whole)) > t, np.arange(240) > h
    unpublished = whole.day > whole.day[h] + (whole.local_hour[h] >= 14)
    day_ahead = random.uniform(10, 90, 240)
    ahead = (day_ahead, changed(day_ahead, unpublished, how, random))
    worth = random.uniform(0.8, 1.2, len(whole))  # what is constant is the same when it is shuffled

    def course(each, at, unknown):
        columns = each.price_usd_per_mwh, each.revenue_usd_per_mwh * worth, each.wake_usd * worth
        return Course(*(column if at == 0 else changed(column, unknown, how, random) for column in columns))

    def told_case(each, at):
        known, settled = course(each.known, at, later), course(each.settled, at, np.ones_like(later))
        return replace(each, known=known, settled=settled, day_ahead=np.repeat(ahead[at], 4))

    def strikes(each, at):
        return each if at == 0 else Strikes(*(changed(v, later, how, random) for v in (each.on, each.off)))

    def told(at):
        rest = {} if at == 0 else {
            "mcpc": np.nan_to_num(changed(whole.mcpc, unpublished, how, random)),
            "p_peak": changed(whole.p_peak, hours_later, how, random),
            "p_peak_ahead": changed(whole.p_peak_ahead, unpublished, how, random),
            "plain_peak": whole.plain_peak & ~unpublished,
            "forgone": changed(whole.forgone, unpublished, how, random),
            "forgone_without_peaks": changed(whole.forgone_without_peaks, unpublished, how, random),
            "p_peak_soon": changed(whole.p_peak_soon, np.arange(240) - np.arange(1, 7)[:, None] > h, how, random),
            "charge": whole.charge[::-1],
        }  # fmt: skip
        return replace(
            whole, cases=tuple(told_case(case, at) for case in whole.cases), **rest,
            strikes={name: tuple(strikes(s, at) for s in each) for name, each in whole.strikes.items()},
        )  # fmt: skip

    return t, ~unpublished, told(0), told(1)


@pytest.mark.parametrize("how", ["shuffle", "blank"])
@pytest.mark.parametrize("model", list(Known))
def test_no_strategy_acts_on_what_it_does_not_know(how, model):
    for n in range(DRAWS):
        t, published, whole, other = world_pair(n, how, model)
        for rules in ALL_RULES:
            one, two = decide(whole, rules), decide(other, rules)
            for before, after in ((one.power, two.power), (one.inference_mw, two.inference_mw)):
                assert before[:, : t + 1].tobytes() == after[:, : t + 1].tobytes(), rules.name
            assert one.sold[:, published].tobytes() == two.sold[:, published].tobytes(), rules.name
            both = np.repeat(published, 4)
            assert one.training_mw[:, both].tobytes() == two.training_mw[:, both].tobytes(), rules.name


@pytest.mark.parametrize("how", ["shuffle", "blank"])
@pytest.mark.parametrize("model", list(Known))
def test_nor_where_ramps_make_it_prepare_for_what_it_has_sold(how, model):
    selling = [rules for rules in ALL_RULES if rules.reserves is not Reserves.NONE]
    for n in range(DRAWS):
        t, published, *worlds = world_pair(n, how, model)
        ramped = [
            replace(each, site=replace(each.site, ramp_up_mw_per_h=24.0, ramp_down_mw_per_h=40.0)) for each in worlds
        ]
        assert ramps.bind(ramped[0].site, 0.25)
        for rules in selling if n % 17 else ALL_RULES:  # those that sell nothing prepare for nothing
            one, two = (decide(each, rules) for each in ramped)
            assert one.power[:, : t + 1].tobytes() == two.power[:, : t + 1].tobytes(), rules.name
            assert one.sold[:, published].tobytes() == two.sold[:, published].tobytes(), rules.name


def called_pair(n, how):
    """(interval, two worlds): calls that are not told by then are an hour later, or never; prices not published are others."""
    random = np.random.default_rng(n)
    days = 24 * np.sort(random.choice(np.arange(1, 6), size=4, replace=False))
    here = called(*(days + random.integers(13, 18, 4)).tolist(), days=6, seed=n)
    calls, told = here.response.calls, int(random.integers(1, 4))
    t = calls[told].told - 1 if n % 2 else calls[told - 1].told  # just before the next is told, and as the last one was
    moved = [
        replace(call, told=call.told + 4, hold=call.hold + 4, start=call.start + 4, end=call.end + 4)
        for call in calls[told:]
    ]
    later = replace(here.response, calls=(*calls[:told], *(moved if how == "shuffle" else ())))
    prices, unpublished = random.uniform(0, 900, len(here)), np.arange(len(here)) >= t + 40  # ten hours ahead
    one, two = (
        replace(here, cases=tuple(replace(case, day_ahead=seen) for case in here.cases))
        for seen in (prices, changed(prices, unpublished, how, random))
    )
    return t, one, replace(two, response=later)


@pytest.mark.parametrize("how", ["shuffle", "blank"])
def test_no_call_is_acted_on_before_it_is_told(how):
    obeying = [rules for rules in ALL_RULES if rules.obeys is not Obeys.NEVER]
    differ = 0
    for n in range(DRAWS):
        t, whole, other = called_pair(n, how)
        chosen = [[call for call in paid_calls(each, each.response) if call.told <= t] for each in (whole, other)]
        assert chosen[0] == chosen[1], "what was told by then is judged by what was known by then"
        for rules in obeying:
            one, two = decide(whole, rules), decide(other, rules)
            assert one.power[:, : t + 1].tobytes() == two.power[:, : t + 1].tobytes(), rules.name
            assert one.sold.tobytes() == two.sold.tobytes(), rules.name
            differ += one.power.tobytes() != two.power.tobytes()
    assert differ > DRAWS


@pytest.mark.parametrize("start", STARTS)
def test_each_month_is_learnt_from_what_was_over_when_its_first_day_s_figures_came(start):
    hours = hourly_grid(24 * 70, start)
    window = np.arange(24 * 3, len(hours))
    begin = instant(int(hours.starts_us[window[0]]))
    asked = Request(Sources(None), begin, begin + timedelta(days=67))
    found = learning.lessons(asked, hours, window)
    assert [part.start for _, part in found] == [0, *(part.stop for _, part in found)][:-1]
    assert found[-1][1].stop == len(window)
    for until, part in found[1:]:
        first = window[part.start]
        assert until == instant(int(hours.starts_us[hours.ahead_rows[first]]))
        assert len(set(hours.month[window[part]])) == 1
    fixed = replace(asked, train_until=begin - timedelta(days=1))
    assert learning.lessons(fixed, hours, window) == [(fixed.train_until, slice(0, len(window)))]


def test_models_that_learnt_from_the_window_are_refused():
    start = STARTS[0]
    with pytest.raises(TrainedTooLateError):
        refuse_hindsight("hysteresis", start + timedelta(hours=1), start)
    assert MIXED_100MW.peaks.usd_per_mw == 16_250
