"""What work used in dollars, by hand: rates agreed and the market's, metered and modelled energy, unknown prices, devices."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from hcp_pipelines.economics.settlement import MONEY
from hcp_pipelines.orchestration.billing.days import booked
from hcp_pipelines.workloads.billing.lines import FRACTION, OWN_RATE, POWER, TERMS, Places, lines_of
from hcp_pipelines.workloads.billing.runs import parts_of, slices_of
from hcp_pipelines.workloads.billing.use import DEVICES, FREE, TOLD, energy_of, held_at, places_of, used_of
from tests.support.billed import AT, checkpoints, events

QUARTER, DAY = timedelta(minutes=15), timedelta(days=1)
PLACES = Places(
    pl.DataFrame(
        [("hou-1", "a", "H100", "model_training", 8.0, 1.0), ("hou-1", "b", "H100", "model_training", 24.0, 2.0)],
        schema=POWER,
        orient="row",
    ),
    pl.DataFrame([("hou-1", "HB_HOUSTON", 1.5, 10.0)], schema=TERMS, orient="row"),
    pl.DataFrame([("hou-1", "model_training", 0.5)], schema=FRACTION, orient="row"),
)
HOUR = [(0, "running"), (3600, "completed")]


def prices(usd_per_mwh=50.0):
    rows = [(AT + n * QUARTER, "HB_HOUSTON", usd_per_mwh) for n in range(96)]
    return pl.DataFrame(rows, schema=["start_at", "settlement_point", "price_usd_per_mwh"], orient="row").cast(
        {"start_at": pl.Datetime("us", "UTC")}
    )


def rates(usd=3.0):
    rows = [(AT + n * QUARTER, "H100", usd) for n in range(96)]
    return pl.DataFrame(rows, schema=["start_at", "gpu_type", "rate_usd_per_gpu_hour"], orient="row").cast(
        {"start_at": pl.Datetime("us", "UTC")}
    )


def devices(*rows):
    return pl.DataFrame([("w1", 1, *row) for row in rows], schema=DEVICES, orient="row")


def told(*rows):
    return pl.DataFrame(
        [(AT + n * QUARTER, "hou-1", *row) for n in range(4) for row in rows], schema=TOLD, orient="row"
    )


def billed(told_of=None, having=(), given=HOUR, price=None, is_energy_charged=True, own=(), **of):
    parts = parts_of(events(given, **of), checkpoints([]), AT + DAY)
    places = places_of(parts, devices(*having))
    used = used_of(parts, slices_of(parts, (AT, AT + DAY), QUARTER), places, told() if told_of is None else told_of)
    own_rates = pl.DataFrame(own, schema=OWN_RATE, orient="row")
    given_prices = prices() if price is None else price
    return lines_of(used, PLACES, rates(), given_prices, own_rates, is_energy_charged=is_energy_charged)


def test_an_hour_of_four_gpus_at_the_agreed_rate_and_metered_energy():
    lines = billed(told(("a", 0, 4.0, 3.6)), [("hou-1", "a", [0, 1, 2, 3])])
    assert lines["gpu_s"].sum() == 4 * 3600
    assert lines["gpu_usd"].sum() == Decimal("8.000000")
    assert lines["device_mwh"].sum() == pytest.approx(3.6 / 1000)
    assert lines["energy_mwh"].sum() == pytest.approx(3.6 / 1000 * 1.5)
    assert lines["energy_usd"].sum() == Decimal("0.324000")  # 5.4 kWh at 50 + 10 $/MWh
    assert lines["usd"].sum() == Decimal("8.324000")
    assert set(lines["energy_basis"]) == {"metered"}
    assert lines.schema["usd"] == MONEY


def test_without_an_agreed_rate_the_market_s_at_the_class_s_fraction():
    lines = billed(usd_per_gpu_hour=None)
    assert lines["gpu_usd"].sum() == Decimal("6.000000")
    assert set(lines["rate_basis"]) == {"market"}


def test_a_customers_own_rate_goes_before_what_was_agreed_for_one_piece_of_work():
    lines = billed(own=[("c1", "H100", 1.5), ("c2", "H100", 9.0), ("c1", "A100", 9.0)])
    assert lines["gpu_usd"].sum() == Decimal("6.000000")
    assert set(lines["rate_basis"]) == {"own"}


def test_devices_that_told_nothing_draw_what_their_model_does():
    partly = billed(told(("a", 0, 1.0, 0.7)), [("hou-1", "a", [0, 1, 2, 3])])
    assert partly["device_mwh"].sum() == pytest.approx((0.7 + 3 * 1.0) / 1000)
    assert set(partly["energy_basis"]) == {"partly"}
    nobody_knows_which = billed()
    assert nobody_knows_which["device_mwh"].sum() == pytest.approx(4 * (8 * 1.0 + 24 * 2.0) / 32 / 1000)
    assert set(nobody_knows_which["energy_basis"]) == {"model"}


def test_what_is_not_known_is_null_and_never_nothing():
    nowhere = billed(facility_id=None)
    assert nowhere["energy_usd"].null_count() == nowhere["usd"].null_count() == 4
    assert nowhere["gpu_usd"].sum() == 8
    assert set(nowhere["energy_basis"]) == {"unknown"}
    unpriced = billed(price=prices(None))
    assert unpriced["usd"].null_count() == 4
    assert billed(price=prices(float("nan")))["energy_usd"].null_count() == 4


def test_energy_that_is_in_the_rate_is_shown_and_not_charged():
    lines = billed(is_energy_charged=False)
    assert lines["energy_usd"].sum() > 0
    assert lines["usd"].sum() == lines["gpu_usd"].sum()


def test_lost_time_is_priced_and_not_billed():
    lines = billed(given=[(0, "running"), (900, "waiting"), (1800, "cancelled")])
    assert lines["usd"].sum() == 0
    assert lines["gpu_usd"].sum() == Decimal("2.000000")
    assert set(lines["treatment"]) == {"lost"}


def test_work_on_two_groups_is_charged_once():
    lines = billed(having=[("hou-1", "a", [0, 1, 2]), ("hou-1", "b", [8])])
    assert lines["gpu_s"].sum() == 4 * 3600
    assert {row["group_id"]: row["gpu_s"] for row in lines.to_dicts()} == {"a": 2700.0, "b": 900.0}
    assert lines["device_mwh"].sum() == pytest.approx((3 * 1.0 + 1 * 2.0) / 1000)


@pytest.mark.parametrize(
    ("first", "day", "intervals"),
    [
        (datetime(2025, 3, 8, tzinfo=UTC), date(2025, 3, 9), 92),
        (datetime(2025, 11, 1, tzinfo=UTC), date(2025, 11, 2), 100),
    ],
)
def test_an_operating_day_has_23_or_25_hours_when_clocks_change(first, day, intervals):
    start = (first - AT).total_seconds()
    parts = parts_of(events([(start, "running"), (start + 4 * 86_400, "completed")]), checkpoints([]), first + 4 * DAY)
    slices = slices_of(parts, (first, first + 4 * DAY), QUARTER)
    used = used_of(parts, slices, places_of(parts, devices()), told())
    lines = booked(
        lines_of(used, PLACES, rates(), prices(), pl.DataFrame(schema=OWN_RATE), is_energy_charged=True)
    ).filter(operating_day=day)
    assert len(lines) == lines["start_at"].n_unique() == intervals
    assert lines["gpu_s"].sum() == pytest.approx(intervals * 900 * 4)


def test_slots_are_held_from_when_to_when():
    parts = parts_of(events(HOUR), checkpoints([]), AT + DAY)
    places = places_of(parts, devices(("hou-1", "a", [5, 6]), ("elsewhere", "a", [5])))
    held = held_at(parts, places, "hou-1")
    assert held["slot"].to_list() == [5, 6]
    assert set(held["until_at"] - held["from_at"]) == {timedelta(hours=1)}


def test_energy_of_a_group_is_what_work_used_and_what_the_rest_drew():
    lines = billed(told(("a", 0, 4.0, 3.6)), [("hou-1", "a", [0, 1, 2, 3])])
    free = pl.DataFrame([(AT + n * QUARTER, "hou-1", "a", 0.001) for n in range(4)], schema=FREE, orient="row")
    groups = free.rename({"free_mwh": "group_mwh"}).with_columns(group_mwh=0.0019)
    found = energy_of(lines, free, groups)
    assert (found["work_mwh"] + found["free_mwh"]).to_list() == pytest.approx([0.0019] * 4)
