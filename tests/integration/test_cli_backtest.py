"""`hcp backtest`: the golden case to the dollar, what it prints, and what it refuses."""

import json
from datetime import timedelta
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.optimizer.backtest.record import BACKTESTS, store, table
from hcp_pipelines.orchestration.lake_state import has_columns
from hcp_pipelines.orchestration.mart_sources import ensure_sources
from hcp_pipelines.storage import lake
from tests.support.recorded import DAY, price_frame, random_prices, real_folder, write_folder

GOLDEN = {  # J/TH: dollars of always_on, break_even and oracle, and the latter two's wakes; computed independently (issue 6)
    "15": (1_753_444, (1_779_467, 160), (1_782_647, 58)),
    "17.5": (1_453_069, (1_481_858, 191), (1_484_932, 72)),
    "21.5": (1_117_767, (1_150_282, 263), (1_153_978, 90)),
    "29.5": (719_951, (761_022, 392), (764_997, 153)),
}
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def backtest(*arguments):
    done = CliRunner().invoke(
        cli, ["backtest", "--preset", "asic-1mw", *(str(a) for a in arguments)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def no_platform(tmp_path, monkeypatch):
    """Where nothing runs, whatever runs beside the tests."""
    monkeypatch.setenv("HCP_STATE_DIR", str(tmp_path / "nowhere"))


@pytest.fixture
def made_up(tmp_path):
    write_folder(tmp_path, random_prices(96 * 40))
    start, end = DAY + timedelta(days=10), DAY + timedelta(days=40)
    return [
        "--prices",
        tmp_path,
        "--point",
        "HB_TEST",
        "--from",
        start.date(),
        "--to",
        end.date(),
        "--efficiency-j-per-th",
        17.5,
    ]


@pytest.mark.shared_data
def test_the_golden_case_to_the_dollar_and_the_wake():
    plain = [part for name in ("always_on", "break_even", "oracle") for part in ("--strategy", name)]
    window = [
        "--from",
        "2024-01-01",
        "--to",
        "2025-06-01",
        "--prices",
        real_folder(),
        "--hashprice",
        "same-day",
        *plain,
    ]
    report = json.loads(backtest(*window, "--known", "at-start", "--json"))
    assert report["granularity_min"] == 15
    for efficiency, (always, break_even, oracle) in GOLDEN.items():
        of = report["efficiencies"][efficiency]["strategies"]
        assert round(of["always_on"]["net_usd"]) == always
        assert [(round(of[n]["net_usd"]), of[n]["wakes"]) for n in ("break_even", "oracle")] == [break_even, oracle]


def test_one_efficiency_gives_the_object_of_the_design(made_up):
    report = json.loads(backtest(*made_up, "--json"))
    assert report["window"] == {"from": "2024-03-11T00:00:00+00:00", "to": "2024-04-10T00:00:00+00:00"}
    assert (report["known"], report["granularity_min"], report["hashprice"]) == ("at-start", 15, "previous-day")
    of = report["strategies"]["oracle"]
    assert sum(of["parts_usd"].values()) == pytest.approx(of["net_usd"], abs=0.02)
    assert (report["gap_closed"]["break_even"], report["gap_closed"]["oracle"]) == (0.0, 1.0)
    assert report["gap_closed"]["hysteresis"] < 1


def test_told_a_quarter_of_an_hour_late_every_rule_earns_less_and_the_oracle_the_same(made_up):
    early, late = (json.loads(backtest(*made_up, "--known", k, "--json"))["strategies"] for k in ("at-start", "after"))
    assert early["oracle"] == late["oracle"]
    assert early["break_even"]["net_usd"] > late["break_even"]["net_usd"]


def test_minimum_times_hold_every_strategy_and_the_oracle(made_up):
    plain = ["--strategy", "hysteresis", "--json"]
    free = json.loads(backtest(*made_up, *plain))
    held = json.loads(backtest(*made_up, *plain, "--min-up-minutes", 50, "--min-down-minutes", 30))
    assert (held["min_up_minutes"], held["min_down_minutes"], free["min_up_minutes"]) == (50, 30, 0)
    assert any("once woken on for at least 50 minutes, once asleep off for 30" in note for note in held["notes"])
    for name in ("break_even", "oracle"):
        assert held["strategies"][name]["net_usd"] < free["strategies"][name]["net_usd"]
        assert held["strategies"][name]["wakes"] < free["strategies"][name]["wakes"]
    assert held["strategies"]["oracle"]["net_usd"] > held["strategies"]["hysteresis"]["net_usd"]


def test_hashprice_is_made_of_bitcoin_and_the_networks_days_where_both_are_named(made_up, tmp_path):
    hours = pl.datetime_range(DAY - timedelta(days=1), DAY + timedelta(days=42), "1h", time_zone="UTC", eager=True)
    pl.DataFrame(
        {"interval_start_utc": hours, "close_usdt": 30_000.0 + 1000.0 * (np.arange(len(hours)) % 24)}
    ).write_parquet(tmp_path / "bitcoin.parquet")
    days = hours.dt.date().unique(maintain_order=True)
    columns = {"total_fees_btc": 50.0, "issuance_btc": 450.0, "hashrate_th_per_s": 4.15e8}
    pl.DataFrame({"date_utc": days}).with_columns(**{k: pl.lit(v) for k, v in columns.items()}).write_csv(
        tmp_path / "days.csv"
    )
    named = ("--btc", tmp_path / "bitcoin.parquet", "--network", tmp_path / "days.csv")
    own = json.loads(backtest(*made_up, "--strategy", "always_on", "--json", *named))
    plain = json.loads(backtest(*made_up, "--strategy", "always_on", "--json"))
    earned = [each["strategies"]["always_on"]["net_usd"] for each in (own, plain)]
    assert earned[0] == pytest.approx(earned[1]), "500 BTC at 41,500 over 415,000 PH/s are $50 a PH and day"
    assert own["files"] == plain["files"] | {"btc": "bitcoin.parquet", "network": "days.csv"}


def test_the_table_and_a_page_without_the_network(made_up, tmp_path):
    text = backtest(*made_up, "--html", tmp_path / "page.html")
    assert "break_even" in text
    title = "HB_TEST, 2024-03-11T00:00Z to 2024-04-10T00:00Z, 15-minute prices, known at-start, hashprice previous-day: $ per MW"
    assert title in " ".join(text.split())  # a narrow terminal breaks it
    page = (tmp_path / "page.html").read_text()
    assert "plotly.js v" in page[:100_000]
    assert f"<h1>{title}</h1>" in page
    assert 'src="http' not in page


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--from", "2024-04-10"], "is empty: --from must be before --to"),
        (["--point", "HB_WEST"], "no file has that point"),
        (["--to", "2024-05-01"], "no rt_price_usd_per_mwh of HB_TEST over"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(made_up, change, told):
    with pytest.raises(ConfigError, match=told):
        backtest(*made_up, *change)


def test_a_series_that_nothing_would_read_is_refused(made_up, tmp_path):
    with pytest.raises(
        ConfigError, match=r"--load .*prices.parquet: no columns interval_start_utc and ercot_load_mw, or"
    ):
        backtest(*made_up, "--load", tmp_path / "prices.parquet")


def test_what_cannot_be_written_or_known_is_refused_before_the_work(made_up, tmp_path):
    """Learning takes minutes: a page that has no folder was found out after them."""
    with pytest.raises(click.BadParameter, match="away is no folder that can be written: make it, or name another"):
        cli.main(["backtest", *map(str, made_up), "--html", str(tmp_path / "away" / "p.html")], standalone_mode=False)
    with pytest.raises(
        ConfigError, match="what is learnt was trained until 2024-03-12T00:00Z, past the window's start"
    ):
        backtest(*made_up, *PLAIN, "--train-until", "2024-03-12")


def test_series_of_a_mixed_facility_are_not_read_for_miners_alone_and_it_says_so(made_up, tmp_path):
    (tmp_path / "own").mkdir()
    price_frame([1.0] * 4).rename({"rt_price_usd_per_mwh": "ercot_load_mw"}).write_csv(tmp_path / "own" / "load.csv")
    asked = ["backtest", *map(str, made_up), *PLAIN, "--load", str(tmp_path / "own" / "load.csv")]
    done = CliRunner().invoke(cli, asked, catch_exceptions=False)
    assert done.stderr == "not read: load.csv: asic-1mw is energy and switching alone\n"


def test_where_nothing_is_above_break_even_there_is_no_share_to_tell(made_up):
    report = json.loads(
        backtest(*made_up[:-1], 17.5, "--strategy", "hysteresis", "--network", cheap(made_up[1]), "--json")
    )
    assert (report["mean_gap_closed"]["hysteresis"], report["mean_interval_90"]["hysteresis"]) == (None, [None, None])
    assert report["strategies"]["hysteresis"]["wakes"] == 0
    told = "no share of the gap at 17.5 J/TH: break_even is within $1 per MW and day of perfect foresight"
    assert told in report["notes"]
    short = json.loads(backtest(*made_up, "--to", "2024-03-20", "--strategy", "hysteresis", "--json"))
    assert "no 90 % intervals: they are drawn from weeks, and there are fewer than 4" in short["notes"]


def cheap(folder):
    """A hashprice that no price reaches."""
    days = pl.read_parquet(folder / "network.parquet").with_columns(hashprice_usd_per_ph_per_day_derived=pl.lit(9e5))
    days.write_csv(folder / "cheap.csv")
    return folder / "cheap.csv"


def test_without_prices_it_says_which_options_are_missing():
    with pytest.raises(ConfigError, match=r"--prices DIR, or --rt FILE and --network FILE"):
        backtest("--from", "2024-01-01", "--to", "2024-02-01")


def test_a_mixed_facility_needs_a_folder_and_has_miners_of_its_own(tmp_path):
    base = ["backtest", "--preset", "mixed-100mw", "--from", "2024-03-01", "--to", "2024-03-05"]
    with pytest.raises(ConfigError, match=r"needs prices, capacity prices.*--prices DIR, or all of --rt"):
        CliRunner().invoke(cli, base, catch_exceptions=False)
    with pytest.raises(ConfigError, match="has miners of its own"):
        CliRunner().invoke(cli, [*base, "--efficiency-j-per-th", "15"], catch_exceptions=False)
    terms = ["--response", str(EXAMPLES / "response.yaml")]
    with pytest.raises(ConfigError, match="of a mixed facility: add --preset mixed-100mw"):
        backtest("--from", "2024-03-01", "--to", "2024-03-05", "--prices", tmp_path, *terms)
    write_folder(tmp_path, random_prices(96 * 5))
    with pytest.raises(ConfigError, match="minimum times are those of one megawatt of miners"):
        CliRunner().invoke(cli, [*base, "--prices", str(tmp_path), "--min-down-minutes", "30"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="no file with interval_start_utc and ercot_load_mw"):
        CliRunner().invoke(cli, [*base, "--point", "HB_TEST", "--prices", str(tmp_path)], catch_exceptions=False)
    arguments = ["backtest", "--strategy", "field", *base[3:], "--prices", str(tmp_path)]
    with pytest.raises(ConfigError, match="no strategy field; there are always_on"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)


PLAIN = ("--strategy", "always_on")


def test_results_are_kept_in_the_lake_of_the_platform(made_up, postgres):
    late = ["--known", "after", "--min-down-minutes", 30]
    asked = ["backtest", *made_up, *PLAIN, "--json", *late, "--state-dir", postgres.state_dir]
    done = CliRunner().invoke(cli, [str(a) for a in asked], catch_exceptions=False)
    report, run_id = json.loads(done.stdout), done.stderr.split()[2]
    with lake.attach(postgres, read_only=True) as connection:
        query = "from lake.raw.backtests where run_id = ? order by strategy"
        rows = connection.execute(query, [run_id]).pl().to_dicts()
    assert [row["strategy"] for row in rows] == ["always_on", "break_even", "oracle"]
    for row in rows:
        of = report["strategies"][row["strategy"]]
        assert (round(row["net_usd"], 2), round(row["curtailed_mwh"], 2)) == (of["net_usd"], of["curtailed_mwh"])
        assert row["mining_usd"] + row["energy_usd"] + row["switching_usd"] == pytest.approx(row["net_usd"])
        assert row["subject"] == "asic-1mw, 0 min up, 30 down"
        assert (row["kind"], row["known"], row["efficiency_j_per_th"], row["mw"]) == ("backtest", "after", 17.5, 1.0)
        assert row["window_end_at"] - row["window_start_at"] == timedelta(days=30)
        assert json.loads(row["data_source"])["rt"] == "prices.parquet"
        assert row["inference_usd"] is None
        assert row["calls_met"] is None
        assert row["code_version"]
    with lake.attach(postgres) as connection:  # as an older version had made it
        connection.execute("alter table lake.raw.backtests drop column calls_met")
        kept = table([{"run_id": f"{run_id}-again", "calls_met": 3}])
        assert store(postgres, kept) == 1
        query = "select calls_met from lake.raw.backtests where run_id like ? order by calls_met"
        assert connection.execute(query, [f"{run_id}%"]).fetchall() == [(3,), (None,), (None,), (None,)]
        connection.execute("alter table lake.raw.backtests drop column response_usd")
    wanted = {BACKTESTS: ["net_usd", "response_usd"]}
    assert not has_columns(postgres, wanted)
    ensure_sources(postgres)  # as marts are built: they name all columns
    assert has_columns(postgres, wanted)


def test_without_a_platform_nothing_is_kept_and_to_want_it_fails(made_up, tmp_path):
    done = CliRunner().invoke(cli, ["backtest", *map(str, made_up), *PLAIN])
    assert (done.exit_code, "recorded" in done.stderr, (tmp_path / "nowhere").exists()) == (0, False, False)
    done = CliRunner().invoke(cli, ["backtest", *map(str, made_up), *PLAIN, "--record"])
    assert isinstance(done.exception, StorageError)


def test_a_platform_that_is_down_costs_no_back_test(made_up, tmp_path):
    (tmp_path / "nowhere" / "lake").mkdir(parents=True)
    done = CliRunner().invoke(cli, ["backtest", *map(str, made_up), *PLAIN])
    assert done.exit_code == 0
    assert done.stderr.startswith("not recorded: ")
