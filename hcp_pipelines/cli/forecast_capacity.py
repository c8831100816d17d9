"""`hcp forecast capacity`: how good forecasts of the fleet would have been on months of a past. The work is in `forecasting`."""

import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import polars as pl

from hcp_pipelines.cli.common import bars, instant, print_json, print_table
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity.fault_log import hours_of, read_downtimes
from hcp_pipelines.forecasting.capacity.targets import TARGETS
from hcp_pipelines.forecasting.capacity.trial import Trial, trial

ROOT = Path(__file__).resolve().parents[2]
MADE = (
    datetime(2024, 5, 1, tzinfo=UTC),
    datetime(2024, 10, 1, tzinfo=UTC),
)  # a summer, whose hot weeks follow another one's
LEARNT_FROM = timedelta(days=366)  # before the first question, of what is made
LEARNT_SHARE = 0.4  # of another past, unless it is said otherwise
SHOWN = (
    ("days", "days"), ("model", "model"), ("forecasts", "forecasts"), ("mae", "MAE"), ("mape", "MAPE"), ("bias", "bias"),
    ("pinball", "pinball"), ("pinball_05", "pinball 5 %"), ("pinball_10", "pinball 10 %"),
    ("coverage_80", "in 80 %"), ("coverage_90", "in 90 %"),
)  # fmt: skip


@click.command()
@click.option(
    "--history", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Fleet hours in a parquet file, or a recorded fault log of servers (.csv, .csv.gz); made unless given (docs/world.md).",
)  # fmt: skip
@click.option(
    "--recorded", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="For what is made: a folder with recorded weather, prices and faults.",
)  # fmt: skip
@click.option(
    "--target", "name", type=click.Choice([each.name for each in TARGETS]), default="capacity", show_default=True,
    help="What is forecast.",
)  # fmt: skip
@click.option("--from", "start", callback=instant, help="First question, UTC.  [default: 2024-05-01, or two fifths in]")
@click.option(
    "--to", "end", callback=instant, help="The instant after the last one.  [default: 2024-10-01, or the end]"
)
@click.option("--ahead", type=click.IntRange(1, 30), multiple=True, default=(1,), show_default=True, help="Days ahead.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=7, show_default=True, help="Of the past and the learning."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def capacity(
    history: Path | None, recorded: Path | None, name: str, start: datetime | None, end: datetime | None,
    ahead: tuple[int, ...], seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Score forecasts of what the fleet can do, learnt anew each month from what was known, beside the baselines."""
    if history and recorded:
        raise ConfigError("--recorded is for a past that is made: leave it out beside --history")
    window = (start or MADE[0], end or MADE[1])
    hours = _past(history) if history else _made(window, recorded, seed)
    if history:
        first, last = _span(hours)
        window = (start or first + (last - first) * LEARNT_SHARE, end or last)
    target = next(each for each in TARGETS if each.name == name)
    with bars() as progress:
        found = trial(target, hours, window, ahead=ahead, seed=seed, progress=progress)
    if as_json:
        print_json({"target": name, "from": window[0], "to": window[1], "ahead": ahead, "seed": seed} | _plain(found))
        return
    asked = f"asked {window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}, days ahead {', '.join(map(str, ahead))}"
    _print(f"{name}, {target.unit}, {asked}", found)


def _past(path: Path) -> pl.DataFrame:
    return _read(path) if path.suffix == ".parquet" else hours_of(read_downtimes(path))


def _made(window: tuple[datetime, datetime], recorded: Path | None, seed: int) -> pl.DataFrame:
    """A past by the world.

    Raises:
        ConfigError: the world refuses to make one.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "past.parquet"
        argv = [sys.executable, "-m", "simulators.fleet_history", "--out", str(out), "--seed", str(seed)]
        argv += ["--from", f"{window[0] - LEARNT_FROM:%Y-%m-%d}", "--to", f"{window[1]:%Y-%m-%d}"]
        argv += ["--recorded", str(recorded)] if recorded else []
        asked = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        if asked.returncode:
            raise ConfigError((asked.stderr.strip().splitlines() or [f"it ended with {asked.returncode}"])[-1])
        return _read(out)


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{path} is no parquet file of fleet hours: {str(error).splitlines()[0]}") from error


def _span(hours: pl.DataFrame) -> tuple[datetime, datetime]:
    first, last = hours["start_at"].min(), hours["start_at"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise ConfigError("the history has no hours")
    return first, last + timedelta(hours=1)


def _plain(found: Trial) -> dict[str, Any]:
    versus = [
        {"days": each.days, "level": each.level, "model": each.comparison.one, "baseline": each.comparison.other,
         "compared_days": each.comparison.days, "ratio": each.comparison.ratio, "low": each.comparison.low,
         "high": each.comparison.high, "p_value": each.comparison.p_value}
        for each in found.versus
    ]  # fmt: skip
    risks = {name: asdict(each) for name, each in found.risks.items()}
    return {"scores": found.scores.to_dicts(), "versus": versus, "risks": risks}


def _print(title: str, found: Trial) -> None:
    def said(value: object) -> object:
        return f"{value:.4g}" if isinstance(value, float) else value

    rows = found.scores.select([column for column, _ in SHOWN]).iter_rows()
    print_table(title, [word for _, word in SHOWN], [tuple(said(value) for value in row) for row in rows])
    for each in found.versus:
        beside = each.comparison
        click.echo(
            f"{each.days}, pinball at {each.level:g}: {beside.one} over {beside.other} {beside.ratio:.3f} "
            f"(90 %: {beside.low:.3f} to {beside.high:.3f}, weeks drawn anew), p {beside.p_value:.2g} on {beside.days} days"
        )
    for name, of_it in found.risks.items():
        click.echo(
            f"lost within a day, {name}: {of_it.happened:.3f} of {of_it.forecasts}, mean chance {of_it.mean_chance:.3f}, "
            f"Brier {of_it.brier:.4f}, skill over what is usual {of_it.skill:.3f}"
        )
