"""`hcp forecast`: how good the forecasts would have been on recorded series. The work is in `forecasting`."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import click
import polars as pl

from hcp_pipelines.cli.common import bars, instant, print_json, print_table
from hcp_pipelines.cli.forecast_capacity import capacity
from hcp_pipelines.forecasting.baselines import POINT_FORECASTS, learn_baseline
from hcp_pipelines.forecasting.learnable.compare import Comparison
from hcp_pipelines.forecasting.learnable.compare import compare as compare_models
from hcp_pipelines.forecasting.learnable.demand_trace import BEGAN, trace_changes
from hcp_pipelines.forecasting.learnable.models import SeasonalNaive
from hcp_pipelines.forecasting.learnable.price_trial import price_trial, soundness
from hcp_pipelines.forecasting.learnable.rolling import rolling
from hcp_pipelines.forecasting.learnable.scoring import ALL
from hcp_pipelines.forecasting.learnable.scoring import scores as learnable_scores
from hcp_pipelines.forecasting.learnable.targets.demand import CHANGES, TOTAL, DemandTarget
from hcp_pipelines.forecasting.learnable.targets.price import BLEND, FRAMING
from hcp_pipelines.forecasting.peak_scores import peak_scores
from hcp_pipelines.forecasting.power_forecast import learn
from hcp_pipelines.forecasting.quantile_scores import scores, shares_below, skill
from hcp_pipelines.forecasting.rolling import rolling_forecasts
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.hours import load_hours
from hcp_pipelines.optimizer.backtest.mixed.site import FourPeaks
from hcp_pipelines.optimizer.backtest.power_series import load_power_series

REFIT = timedelta(days=4)
DAY_AHEAD_PRICE = SeasonalNaive(FRAMING, name="day_ahead_or_last")
LEARNABLE_SHOWN = (
    ("horizon", "hours ahead"), ("forecasts", "forecasts"), ("mae", "MAE"), ("pinball", "pinball"), ("coverage_80", "in 80 %"),
    ("coverage_90", "in 90 %"), ("rmae_naive", "MAE / naive"), ("smape", "sMAPE"),
)  # fmt: skip
SHOWN = (
    ("horizon", "hours ahead"), ("forecasts", "forecasts"), ("mae_usd_per_mwh", "MAE, $/MWh"), ("pinball_usd_per_mwh", "pinball"),
    ("anchor_pinball_usd_per_mwh", "pinball of baseline"),
    ("coverage_80", "in 80 %"), ("coverage_90", "in 90 %"), ("rmae_naive", "MAE / naive"),
    ("rmae_persistence", "MAE / last price"), ("rmae_day_ahead", "MAE / day-ahead"), ("known_day_ahead", "day-ahead known"),
)  # fmt: skip

of_folder = click.option(
    "--prices", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True,
    help="A folder of series, found by columns.",
)  # fmt: skip


@click.group()
def forecast() -> None:
    """Forecasts on recorded series: how good they would have been (docs/forecasts.md)."""


@forecast.command()
@of_folder
@click.option("--point", default="HB_HUBAVG", show_default=True, help="Settlement point.")
@click.option("--from", "start", callback=instant, required=True, help="First instant, UTC; a bare date is midnight.")
@click.option("--to", "end", callback=instant, required=True, help="The instant after the last one.")
@click.option(
    "--every-h", type=click.IntRange(1, 48), default=1, show_default=True, help="Hours from one forecast to the next."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the learning.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def power(folder: Path, point: str, start: datetime, end: datetime, every_h: int, seed: int, as_json: bool) -> None:
    """Score quantiles of the power price of the next 48 hours, learnt anew each month from what was over."""
    series, missing = load_power_series(Sources(folder, point=point), start, end)
    with bars() as progress:
        table = rolling_forecasts(
            series, (start, end), lambda lessons, until: learn(lessons, until, seed), every_h=every_h, progress=progress
        )
        plain = rolling_forecasts(series, (start, end), learn_baseline, every_h=every_h)
    found = scores(table).with_columns(anchor_pinball_usd_per_mwh=scores(plain)["pinball_usd_per_mwh"])
    beside = {name: each for name in POINT_FORECASTS if (each := skill(table, name)) is not None}
    below = {f"{level:g}": share for level, share in shares_below(table).items()}
    if as_json:
        of_all = {name: dict(zip(("value", "low", "high"), each, strict=True)) for name, each in beside.items()}
        about = {"point": point, "from": start, "to": end, "every_h": every_h, "seed": seed, "missing": missing}
        print_json(about | {"rmae": of_all, "below": below, "scores": found.to_dicts()})
        return
    _print(f"{point}, {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}, asked every {every_h} h", found)
    click.echo("prices below each quantile: " + ", ".join(f"{share:.2f} of {level}" for level, share in below.items()))
    for name, (value, low, high) in beside.items():
        click.echo(f"MAE over that of {name}: {value:.3f} (90 %: {low:.3f} to {high:.3f}, weeks drawn anew)")
    if missing:
        click.echo(f"note: no file has {', '.join(missing)}: the forecast does without")


@forecast.command()
@of_folder
@click.option("--from", "start", callback=instant, required=True, help="First instant, UTC; a bare date is midnight.")
@click.option("--to", "end", callback=instant, required=True, help="The instant after the last one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def peaks(folder: Path, start: datetime, end: datetime, as_json: bool) -> None:
    """Score the chances of each month's peak of demand, learnt anew each month from what was over."""
    hours = load_hours(Sources(folder), end)
    with bars() as progress:
        found = peak_scores(hours, (start, end), FourPeaks().months, progress)
    if as_json:
        print_json({"from": start, "to": end, "months": found.to_dicts()})
        return
    _print(
        f"peaks of demand, {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}",
        found,
        tuple((c, c) for c in found.columns),
    )


@forecast.command()
@of_folder
@click.option("--point", default="HB_HUBAVG", show_default=True, help="Settlement point.")
@click.option("--from", "start", callback=instant, required=True, help="First instant, UTC; a bare date is midnight.")
@click.option("--to", "end", callback=instant, required=True, help="The instant after the last one.")
@click.option("--lear", "with_lear", is_flag=True, help="Beside LEAR too, learnt anew each day (minutes).")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the learning.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(
    folder: Path, point: str, start: datetime, end: datetime, with_lear: bool, seed: int, as_json: bool
) -> None:
    """Models of the power price beside each other, learnt anew every thirty days; paired tests by day."""
    series, _ = load_power_series(Sources(folder, point=point), start, end)
    with bars() as progress:
        trial = price_trial(series, (start, end), (SeasonalNaive(), DAY_AHEAD_PRICE, BLEND), seed, progress)
        beside = [trial.beside(BLEND.name, SeasonalNaive.name), trial.beside(BLEND.name, DAY_AHEAD_PRICE.name)]
        beside.append(trial.beside(BLEND.name, DAY_AHEAD_PRICE.name, published=True))
        beside += [trial.beside_lear(BLEND.name, progress)] if with_lear else []
        sound = soundness(series, (start, end), progress) if with_lear else None
    found = {name: learnable_scores(each) for name, each in trial.forecasts.items()}
    if as_json:
        about = {"point": point, "from": start, "to": end, "seed": seed, "lear": asdict(sound) if sound else None}
        scored = {name: _of(each, ALL).to_dicts() for name, each in found.items()}
        print_json(about | {"scores": scored, "beside": [asdict(each) for each in beside]})
        return
    for name, each in found.items():
        _print(f"{name}: {point}, {start:%Y-%m-%d} to {end:%Y-%m-%d}, $/MWh", _of(each, ALL), LEARNABLE_SHOWN)
    _print_beside(beside)
    if sound:
        click.echo(
            f"LEAR of day-ahead prices, {sound.days} days: MAE {sound.mae_usd_per_mwh:.2f} $/MWh, over the week before "
            f"{sound.over_weekly:.3f}, over the day before {sound.over_daily:.3f}"
        )


@forecast.command()
@click.option(
    "--trace", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=True,
    help="A cluster's tasks (num_gpu, gpu_milli, qos, creation_s, deletion_s).",
)  # fmt: skip
@click.option(
    "--learn-from-day", type=int, default=116, show_default=True, help="Of the trace: before, few tasks are in it."
)
@click.option("--from-day", type=int, required=True, help="First day of the trace that is forecast.")
@click.option("--to-day", type=int, required=True, help="The day after the last one.")
@click.option(
    "--every-h", type=click.IntRange(1, 48), default=2, show_default=True, help="Hours from one forecast to the next."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the learning.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def demand(file: Path, learn_from_day: int, from_day: int, to_day: int, every_h: int, seed: int, as_json: bool) -> None:
    """Models of GPU demand beside each other on a recorded cluster, 1 to 72 hours ahead, learnt anew every fourth day."""
    first, start, end = (BEGAN + timedelta(days=day) for day in (learn_from_day, from_day, to_day))
    target = DemandTarget(every_h=every_h)
    examples = target.examples({CHANGES: trace_changes(file)}, (first, end))
    with bars() as progress:
        rolled = {
            model.name: rolling(examples, model, (start, end), every=REFIT, seed=seed, progress=progress).forecasts
            for model in target.models
        }
    ships = rolled[target.models[-1].name]
    beside = [compare_models(ships, each) for each in rolled.values() if each is not ships]
    found = {name: learnable_scores(each) for name, each in rolled.items()}
    if as_json:
        scored = {
            name: each.filter((pl.col("entity") == TOTAL) | (pl.col("horizon") == ALL)) for name, each in found.items()
        }
        about = {"from_day": from_day, "to_day": to_day, "seed": seed, "ships": ships.model}
        print_json(
            about | {"scores": {n: e.to_dicts() for n, e in scored.items()}, "beside": [asdict(e) for e in beside]}
        )
        return
    for name, each in found.items():
        _print(f"{name}: GPUs asked for, all classes together", _of(each, TOTAL), LEARNABLE_SHOWN)
    _print_beside(beside)


def _of(scored: pl.DataFrame, entity: str) -> pl.DataFrame:
    return scored.filter(pl.col("entity") == entity)


def _print_beside(beside: Sequence[Comparison]) -> None:
    for each in beside:
        click.echo(
            f"{each.one} beside {each.other}: loss over its {each.ratio:.3f} (90 %: {each.low:.3f} to {each.high:.3f}), "
            f"{each.questions:,} questions of {each.days} days, p = {each.p_value:.2g}"
        )


def _print(title: str, found: pl.DataFrame, shown: Sequence[tuple[str, str]] = SHOWN) -> None:
    def said(value: object) -> object:
        return f"{value:.3f}" if isinstance(value, float) else value

    rows = found.select([column for column, _ in shown]).iter_rows()
    print_table(title, [word for _, word in shown], [tuple(said(value) for value in row) for row in rows])


def register(group: click.Group) -> None:
    """Add the command."""
    forecast.add_command(capacity)
    group.add_command(forecast)
