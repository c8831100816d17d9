"""`hcp forecast`: how good the forecasts would have been on recorded series. The work is in `forecasting`."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import polars as pl

from hcp_pipelines.cli.common import bars, instant, print_json, print_table
from hcp_pipelines.cli.forecast_capacity import capacity
from hcp_pipelines.forecasting.baselines import POINT_FORECASTS, learn_baseline
from hcp_pipelines.forecasting.peak_scores import peak_scores
from hcp_pipelines.forecasting.quantile_scores import scores, shares_below, skill
from hcp_pipelines.forecasting.quantiles import learn
from hcp_pipelines.forecasting.rolling import rolling_forecasts
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.hours import load_hours
from hcp_pipelines.optimizer.backtest.mixed.site import FourPeaks
from hcp_pipelines.optimizer.backtest.power_series import load_power_series

SHOWN = (
    ("horizon", "hours ahead"), ("forecasts", "forecasts"), ("mae_usd_per_mwh", "MAE, $/MWh"), ("pinball_usd_per_mwh", "pinball"),
    ("anchor_pinball_usd_per_mwh", "pinball of baseline"),
    ("coverage_80", "in 80 %"), ("coverage_90", "in 90 %"), ("rmae_naive", "MAE / naive"),
    ("rmae_persistence", "MAE / last price"), ("rmae_day_ahead", "MAE / day-ahead"), ("known_day_ahead", "day-ahead known"),
)  # fmt: skip


@click.group()
def forecast() -> None:
    """Forecasts on recorded series: how good they would have been (docs/forecasts.md)."""


@forecast.command()
@click.option(
    "--prices", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True,
    help="A folder of series, found by columns.",
)  # fmt: skip
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
@click.option(
    "--prices", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True,
    help="A folder of series, found by columns.",
)  # fmt: skip
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


def _print(title: str, found: pl.DataFrame, shown: Sequence[tuple[str, str]] = SHOWN) -> None:
    def said(value: object) -> object:
        return f"{value:.3f}" if isinstance(value, float) else value

    rows = found.select([column for column, _ in shown]).iter_rows()
    print_table(title, [word for _, word in shown], [tuple(said(value) for value in row) for row in rows])


def register(group: click.Group) -> None:
    """Add the command."""
    forecast.add_command(capacity)
    group.add_command(forecast)
