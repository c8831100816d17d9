"""Scores of a past: a recorded fault log as hours, models beside each other, heat waves alone; and the command."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity import targets
from hcp_pipelines.forecasting.capacity.fault_log import BEGINS, hours_of, read_downtimes
from hcp_pipelines.forecasting.capacity.fleet_days import TABLE
from hcp_pipelines.forecasting.capacity.risk import risk
from hcp_pipelines.forecasting.capacity.trial import ALL_DAYS, GPUS, HOT_DAYS, trial
from hcp_pipelines.forecasting.learnable.lessons import Learning
from hcp_pipelines.forecasting.learnable.models import BoostedTrees, Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.scoring import Forecasts
from tests.support.fleet_hours import START, fleet_hours

REAL = Path(__file__).resolve().parents[3] / "shared/data/traces/gpu_node_faults_infinitehbd.csv.gz"
HEAD = "node_id,event_time_days,event_type,fault_level,fault_class,fault_desc\n"
DAYS = 75


@pytest.fixture
def log(tmp_path):
    """Two servers: one down for 36 hours from half past noon of the second day, one twice, the second time without an end."""
    path = tmp_path / "faults.csv"
    rows = [
        "node_1,1.5208333,fault_start,x,GPU,xid", "node_1,3.0208333,fault_end,x,GPU,xid",
        "node_0,2.0,fault_start,x,Fan,fan", "node_0,2.25,fault_end,x,Fan,fan", "node_0,4.0,fault_start,x,Fan,fan",
    ]  # fmt: skip
    path.write_text(HEAD + "\n".join(rows) + "\n")
    return path


def test_a_log_is_hours_of_servers_that_were_up(log):
    found = hours_of(read_downtimes(log, servers=4), groups=1)
    up = found.sort("start_at")["available_h"].to_numpy()
    assert len(up) == 4 * 24  # whole days until the last event
    assert up[:36].tolist() == [4.0] * 36
    assert up[36] == pytest.approx(3.5, abs=0.01)
    assert (4 - up).sum() == pytest.approx(36 + 6, abs=0.02)
    assert found["failures"].sum() == 2
    assert found["start_at"].min() == BEGINS
    assert found["installed"].unique().to_list() == [4]
    half = hours_of(read_downtimes(log, servers=4), groups=2)
    assert half.group_by("group_id").agg(pl.col("installed").first())["installed"].sum() == 4


def test_a_log_that_is_none_is_told(log, tmp_path):
    with pytest.raises(ConfigError, match="names 2 servers that failed: there can't have been 1"):
        read_downtimes(log, servers=1)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=r"is no fault log: .*it needs node_id, event_time_days"):
        read_downtimes(other)
    other.write_text(HEAD)
    with pytest.raises(ConfigError, match="no fault_start"):
        read_downtimes(other)


@pytest.fixture
def quick(monkeypatch):
    """The target's models, with few trees and a short memory."""
    learning, errors = Learning(least_days=14, held_days=14), Learning(least_days=14, held_days=28)
    framing = targets.CAPACITY.models[0].framing
    models = (
        Naive(framing, errors), SeasonalNaive(targets.CAPACITY.models[1].framing, errors),
        BoostedTrees(framing, learning, trees=10, least_in_leaf=10),
    )  # fmt: skip
    made = {
        **{name: getattr(targets.CAPACITY, name) for name in targets.CAPACITY.__dataclass_fields__},
        "models": models,
    }
    own = targets.FleetTarget(**made)
    monkeypatch.setattr("hcp_pipelines.cli.forecast_capacity.TARGETS", (own,))
    return own


def test_hot_days_are_scored_alone_and_the_last_model_beside_each_other_one(quick):
    day = (pl.col("start_at") - START).dt.total_days()
    hours = fleet_hours(DAYS).with_columns(is_heat_wave=(day >= 45) & (day < 62))
    found = trial(quick, hours, (START + timedelta(days=42), START + timedelta(days=DAYS)))
    rows = {(row["days"], row["model"]): row for row in found.scores.iter_rows(named=True)}
    assert set(rows) == {(days, model.name) for days in (ALL_DAYS, GPUS, HOT_DAYS) for model in quick.models}
    assert rows[ALL_DAYS, "naive"]["asked"] == 33 * 4
    assert rows[HOT_DAYS, "naive"]["forecasts"] == 17 * 4
    assert rows[GPUS, "naive"]["asked"] == 33 * 2
    assert len(found.versus) == 3 * 2 * 3
    assert {each.comparison.one for each in found.versus} == {"boosted_trees"}
    assert {each.comparison.days for each in found.versus if each.days == HOT_DAYS} == {17}
    other = trial(quick, hours.drop("is_heat_wave"), (START + timedelta(days=42), START + timedelta(days=DAYS)))
    assert set(other.scores["days"]) == {ALL_DAYS, GPUS}
    assert np.allclose(
        other.scores.filter(days=ALL_DAYS)["pinball"].to_numpy(),
        found.scores.filter(days=ALL_DAYS)["pinball"].to_numpy(),
    )


def test_the_command_scores_a_file_of_hours(quick, tmp_path):
    path = tmp_path / "past.parquet"
    fleet_hours(DAYS).write_parquet(path)
    done = CliRunner().invoke(cli, ["forecast", "capacity", "--history", str(path), "--from", "2024-08-12", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [row["model"] for row in told["scores"]] == ["naive", "seasonal_naive", "boosted_trees"] * 2
    assert {each["baseline"] for each in told["versus"]} == {"naive", "seasonal_naive"}
    shown = CliRunner().invoke(cli, ["forecast", "capacity", "--history", str(path), "--from", "2024-08-12"])
    assert "pinball at 0.05: boosted_trees over seasonal_naive" in shown.output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--recorded", "."], "leave it out beside --history"),
        (["--from", "2030-01-01", "--to", "2030-02-01"], "nothing is asked from 2030-01-01"),
        (["--from", "2024-07-03"], "at least 14 are needed"),
    ],
)
def test_what_can_t_be_scored_is_told(quick, tmp_path, options, why):
    path = tmp_path / "past.parquet"
    fleet_hours(30).write_parquet(path)
    done = CliRunner().invoke(cli, ["forecast", "capacity", "--history", str(path), *options])
    assert why in str(done.exception)
    (tmp_path / "bad.parquet").write_bytes(b"x")
    done = CliRunner().invoke(cli, ["forecast", "capacity", "--history", str(tmp_path / "bad.parquet")])
    assert "is no parquet file of fleet hours" in str(done.exception)


def test_chances_of_failures_are_right_where_the_quantiles_are():
    levels = targets.CAPACITY.models[0].levels
    examples = targets.FAILURE_RISK.examples({TABLE: fleet_hours(DAYS)}, (START, START + timedelta(days=DAYS)))
    random = np.random.default_rng(0)
    mean = random.uniform(0.05, 2.5, len(examples))
    examples = replace(examples, target=random.poisson(mean).astype(np.float64))
    true = np.stack([np.quantile(random.poisson(each, 4000), levels) for each in mean])
    blind = np.broadcast_to(np.quantile(examples.target, levels), true.shape)
    good, bad = (risk(Forecasts("x", examples, each, levels), examples) for each in (true, blind))
    assert good.forecasts == len(examples)
    assert good.mean_chance == pytest.approx(good.happened, abs=0.06)
    assert good.skill > 0.15
    assert bad.skill < 0.02


@pytest.mark.skipif(not REAL.exists(), reason="../shared/data has the recorded fault log")
def test_the_real_log_is_as_it_is_described():
    faults = read_downtimes(REAL)
    assert (len(faults.server), len(np.unique(faults.server)), faults.servers) == (584, 231, 400)
    assert 347 < faults.start_h.max() / 24 < 349
    hours = hours_of(faults)
    assert hours["installed"].unique().to_list() == [50]
    share = hours["available_h"].sum() / hours["installed"].sum()
    assert 0.95 < share < 0.99
    assert hours["failures"].sum() == (faults.start_h < len(hours) / 8).sum()
