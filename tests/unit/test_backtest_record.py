"""A back-test's rows for the lake: a strategy each, dollars that add up, and a request that comes as text from a person."""

from datetime import UTC, datetime, timedelta

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.ledger import KINDS
from hcp_pipelines.optimizer.backtest.mixed.run import NAMES, report_of
from hcp_pipelines.optimizer.backtest.record import SCHEMA, Run, mixed_rows, table
from hcp_pipelines.optimizer.backtest.request import MOST_LEAST_MINUTES, Request, refuse_unclear
from hcp_pipelines.orchestration.backtesting import Asked, markdown, request_of, write_page
from hcp_pipelines.settings import Settings
from tests.support.mixed import START, world

RUN = Run("run-1", "hou-1", datetime(2025, 1, 1, tzinfo=UTC))
ASKED = {
    "preset": "asic-1mw", "facility": "", "start": "2024-03-01", "end": "2024-04-01T06:00+06:00", "point": "HB_HUBAVG",
    "known": "after", "hashprice": "same-day", "strategies": ["mpc"], "efficiencies_j_per_th": [],
}  # fmt: skip


def test_a_mixed_facility_gives_a_row_a_strategy_whose_dollars_add_up():
    request = Request(Sources(None), START, START + timedelta(days=30))
    report = report_of(request, world(days=30, charges=(40, 500)), {"rt": "rt.parquet"})
    rows = table(list(mixed_rows(report, RUN))).to_dicts()
    assert [row["strategy"] for row in rows] == list(NAMES)
    for row in rows:
        assert list(row) == list(SCHEMA)
        assert sum(row[f"{kind}_usd"] for kind in KINDS) == pytest.approx(row["net_usd"])
        assert (row["mw"], row["granularity_minutes"], row["peaks"], row["jobs"]) == (50.0, 15.0, 2, 60)
        assert row["gap_closed_low"] <= row["gap_closed"] <= row["gap_closed_high"]
        assert row["worst_day_usd"] * 30 <= row["net_usd"]
    always = rows[0]
    assert (always["strategy"], always["curtailed_mwh"], always["switches_per_device_day"]) == ("always_on", 0.0, 0.0)
    assert all(row["curtailed_mwh"] > 0 for row in rows[1:])


@pytest.mark.parametrize("step_minutes", [5, 15, 60])
def test_minimum_times_are_as_many_intervals_as_cover_them(step_minutes):
    for minutes in range(MOST_LEAST_MINUTES + 1):
        request = Request(Sources(None), START, START, min_up_minutes=minutes, min_down_minutes=minutes + 0.5)
        least = request.least(step_minutes / 60)
        assert (least.on, least.off) == (max(-(-minutes // step_minutes), 1), minutes // step_minutes + 1)


def test_what_is_asked_for_becomes_a_request_on_the_recorded_series_of_the_settings(tmp_path):
    for settings in (Settings(recorded_dir=tmp_path), Settings(world=f"replay:{tmp_path}")):
        request = request_of(settings, Asked(**ASKED))
        assert request.sources.folder == tmp_path
        assert (request.start, request.end) == (datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
        assert (request.known.value, request.is_hashprice_same_day, request.strategies) == ("after", True, ("mpc",))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"preset": "asic"}, "preset: 'asic' is none; there are asic-1mw, mixed-100mw"),
        ({"known": "never"}, "at-start, after"),
        ({"hashprice": "next-day"}, "same-day, previous-day"),
        ({"relearn": "week"}, "relearn: 'week' is none; there are .*month, quarter"),
        ({"start": "yesterday"}, "start: 'yesterday' is not an instant"),
        ({"start": "0001-01-01T00:00+14:00"}, "start: '0001-01-01T00:00.14:00' is not between the years 2000 and 2200"),
        ({"end": "9999-12-31T23:59-14:00"}, "end: '9999-12-31T23:59-14:00' is not between"),
        ({"start": "9" * 10_000}, "start: '9{40}' is not an instant"),
        ({"efficiencies_j_per_th": [17.5, 1e-300]}, "efficiency of 1e-300 J/TH: must be from 1 to 1000"),
        ({"efficiencies_j_per_th": [float("nan")]}, "efficiency of nan J/TH"),
        ({"efficiencies_j_per_th": [17.5] * 21}, "21 efficiencies: at most 20"),
        ({"preset": "mixed-100mw", "efficiencies_j_per_th": [17.5]}, "leave efficiencies_j_per_th out"),
        ({"response": {"version": 1}}, "response is of a mixed facility: name one, or the preset mixed-100mw"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(tmp_path, changed, words):
    with pytest.raises(ConfigError, match=words):
        refuse_unclear(request_of(Settings(recorded_dir=tmp_path), Asked(**ASKED | changed)))


def test_without_recorded_series_the_setting_is_named():
    with pytest.raises(ConfigError, match="HCP_RECORDED_DIR"):
        request_of(Settings(), Asked(**ASKED))


def test_twenty_pages_are_kept(tmp_path):
    for n in range(23):
        write_page(tmp_path, f"run-{n}", "<html>")
    assert len(list(tmp_path.iterdir())) == 20
    assert (tmp_path / "run-22.html").exists()


def test_a_table_for_the_ui():
    assert markdown(("a", "b"), [(1, "x")], ["note"]) == "| a | b |\n|---|---|\n| 1 | x |\n\n- note"
