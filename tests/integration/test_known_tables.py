"""What models of prices and demand learn from, made from a real lake: as it was known, and learnt from by their targets."""

import uuid
import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.forecasting.learnable.targets.demand import CHANGES, DEMAND, TOTAL
from hcp_pipelines.forecasting.learnable.targets.price import GRID, PRICE, PRICES
from hcp_pipelines.orchestration.known_tables import BACK, WORK, known_grid, known_prices
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.training.lessons import looked_back, read_lessons
from hcp_pipelines.orchestration.training.targets import days_of
from hcp_pipelines.storage import lake

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets import known
    from hcp_pipelines.orchestration.io_managers import LakeIOManager
    from jobs.training import retrain_jobs

NOW = datetime(2025, 2, 20, 6, 20, tzinfo=UTC)
BEGAN = NOW.replace(hour=0, minute=0) - timedelta(days=20)
MADE = (PRICES, GRID, CHANGES)


@pytest.fixture
def world(settings, postgres):
    path = settings.at("run", "clock.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Anchor(SystemClock().real_now(), NOW, 1.0).dump())
    yield settings
    path.unlink()
    with lake.attach(settings) as connection:
        for table in ("raw.price_ticks", WORK, *MADE):
            connection.execute(f"drop table if exists lake.{table}")


def put(settings, table, frame):
    lake.write(settings, table, frame, batch_id=str(uuid.uuid4()))


def materialize(settings):
    resources = {
        "platform": Platform(state_dir=str(settings.state_dir)), "lake": LakeIOManager(state_dir=str(settings.state_dir)),
    }  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(list(dg.load_assets_from_modules([known])), resources=resources, instance=instance)


def steps(hours_since, *rows):
    """Steps of work: (which piece, type, GPUs, status, hours since the beginning)."""
    return pl.DataFrame(
        [
            {"id": n, "workload_id": f"00000000-0000-0000-0000-{piece:012}", "type": kind, "gpu_count": gpus,
             "new_status": status, "occurred_at": hours_since + timedelta(hours=at)}
            for n, (piece, kind, gpus, status, at) in enumerate(rows)
        ]
    )  # fmt: skip


def read(settings, name):
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(f"select * from lake.{name} order by all").pl()


def test_work_is_asked_for_from_submission_to_its_end_and_learnt_from(world):
    train, batch = (1, "model_training", 8), (2, "ai_inference_batch", 2)
    put(world, WORK, steps(
        BEGAN, (*train, "queued", 0), (*train, "running", 2), (*train, "paused", 5), (*train, "completed", 30),
        (*batch, "queued", 10), (3, "bitcoin_mining", 4, "queued", 11), (4, "ai_inference_batch", 0, "queued", 12),
        (*batch, "failed", 24 * 30),
    ))  # fmt: skip
    materialize(world)
    table = read(world, CHANGES)
    found = [(*row[:2], *((at - BEGAN) / timedelta(hours=1) for at in row[2:])) for row in table.iter_rows()]
    assert found == [
        ("ai_inference_batch", 2, 10, 10), ("model_training", -8, 0, 30), ("model_training", 8, 0, 0),
    ]  # fmt: skip
    examples = DEMAND.examples({CHANGES: table}, (BEGAN, NOW))
    assert examples.entities == ("ai_inference_batch", "model_training", TOTAL)
    asked = examples.only((examples.entity == 2) & (examples.asked_us == examples.asked_us.min()))
    assert asked.target[:30].tolist() == [8.0] * 10 + [10.0] * 20


def test_prices_are_as_they_were_known_and_nothing_from_the_future(world):
    starts = [BEGAN + n * timedelta(minutes=15) for n in range(96 * 20)]
    prices = np.random.default_rng(0).normal(30, 5, len(starts))
    ticks = pl.DataFrame(
        {"stream": Stream.POWER_RT_SPP.value, "series": "HB_TEST", "timestamp": starts, "value": prices, "quality": "good",
         "received_at": [at + timedelta(minutes=15, seconds=20) for at in starts]}
    )  # fmt: skip
    late = ticks.tail(1).with_columns(received_at=pl.lit(NOW + timedelta(hours=1)), value=pl.lit(999.0))
    put(world, "raw.price_ticks", pl.concat([ticks, late]))
    materialize(world)
    tables = {name: read(world, name) for name in (PRICES, GRID)}
    assert tables[PRICES]["known_at"].max() <= NOW
    assert tables[GRID].is_empty()
    examples = PRICE.examples(tables, (BEGAN + timedelta(days=8), NOW))
    assert examples.entities == ("HB_TEST",)
    first = int((examples.wanted_us[0] / 1e6 - BEGAN.timestamp()) / 900)
    assert examples.target[0] == pytest.approx(prices[first : first + 4].mean())
    assert np.isfinite(examples.naive[0])


def test_the_first_lesson_has_as_much_of_the_past_as_what_is_asked_where_the_model_serves(world):
    wanted = timedelta(days=days_of("price")) + looked_back("price")
    starts = [NOW - wanted, NOW - wanted - timedelta(days=2)]
    ticks = pl.DataFrame(
        {"stream": Stream.POWER_RT_SPP.value, "series": "HB_TEST", "timestamp": starts, "value": [30.0, 31.0],
         "quality": "good", "received_at": [at + timedelta(minutes=15) for at in starts]}
    )  # fmt: skip
    put(world, "raw.price_ticks", ticks)
    assert known_prices(world, NOW)["start_at"].to_list() == starts[:1]
    assert wanted <= BACK, "the grid's too"


def test_an_empty_lake_gives_empty_tables(world):
    materialize(world)
    for name in MADE:
        assert read(world, name).is_empty()


@pytest.mark.parametrize(
    ("name", "tables"),
    [("price", ["core_power__known_prices", "core_power__known_grid"]), ("demand", ["core_hcp__gpu_demand_changes"])],
)
def test_the_jobs_make_their_tables_first(name, tables):
    chosen = str(retrain_jobs[name].selection)
    assert all(table in chosen for table in [*tables, f"core_hcp__{name}_model"])


def test_the_shadow_asks_of_what_has_come_since_the_training(world):
    """The tables in the lake are the training's; 18 days later the questions are of the present, with its prices."""
    starts = [BEGAN + n * timedelta(minutes=15) for n in range(96 * 20)]
    ticks = pl.DataFrame(
        {"stream": Stream.POWER_RT_SPP.value, "series": "HB_TEST", "timestamp": starts, "value": [30.0] * len(starts),
         "quality": "good", "received_at": [at + timedelta(minutes=15, seconds=20) for at in starts]}
    )  # fmt: skip
    put(world, "raw.price_ticks", ticks)
    put(world, PRICES, known_prices(world, BEGAN + timedelta(days=2)))
    put(world, GRID, known_grid(world, BEGAN + timedelta(days=2)))
    window = (NOW - timedelta(days=3), NOW)
    frozen, fresh = (read_lessons(world, PRICE, window, anew=anew) for anew in (False, True))
    assert frozen.known_until < BEGAN + timedelta(days=3)
    assert not np.isfinite(frozen.examples.target).any()
    assert fresh.known_until == NOW
    assert fresh.examples.asked_us.max() > (NOW - timedelta(days=1)).timestamp() * 1e6
    assert np.isfinite(fresh.examples.target).mean() > 0.5
    assert read(world, PRICES)["known_at"].max() < BEGAN + timedelta(days=3), "nothing is written"
