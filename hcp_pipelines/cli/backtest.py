"""`hcp backtest`: strategies on recorded prices against perfect foresight. The arithmetic is in `optimizer.backtest`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hcp_pipelines.cli.common import Command, Finite, instant, print_json, print_table
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.backtest_site import mixed_site
from hcp_pipelines.fleet.facility_file import load_facility
from hcp_pipelines.optimizer.backtest.case import Known
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed import report as mixed
from hcp_pipelines.optimizer.backtest.mixed.run import NAMES as MIXED_NAMES
from hcp_pipelines.optimizer.backtest.mixed.run import run_mixed
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW
from hcp_pipelines.optimizer.backtest.report import COLUMNS, as_dict, rows_of, summary
from hcp_pipelines.optimizer.backtest.request import GOLDEN_EFFICIENCIES_J_PER_TH, NAMES, Request
from hcp_pipelines.optimizer.backtest.run import Progress as OnProgress
from hcp_pipelines.optimizer.backtest.run import run

MIXED = "mixed-100mw"
PRESETS = ("asic-1mw", MIXED)


def _file(option: str, text: str) -> Callable[[Command], Command]:
    return click.option(option, type=click.Path(path_type=Path, dir_okay=False, exists=True), help=text)


@click.command("backtest")
@click.option("--preset", type=click.Choice(PRESETS), default=PRESETS[0], show_default=True, help="What is operated.")
@_file("--facility", "A facility file in place of the mixed preset's miners and GPUs.")
@click.option(
    "--efficiency-j-per-th", "efficiencies", type=Finite(1, 1000), multiple=True,
    help="Of the miners; several give a table each.  [default: 15, 17.5, 21.5, 29.5]",
)  # fmt: skip
@click.option("--known", type=click.Choice([k.value for k in Known]), default=Known.AT_START.value, show_default=True,
              help="The price known at a decision: the interval's own, or the last one that has ended.")  # fmt: skip
@click.option("--hashprice", type=click.Choice(["same-day", "previous-day"]), default="previous-day", show_default=True,
              help="The hashprice known at a decision; settled is always the day's own.")  # fmt: skip
@click.option("--from", "start", callback=instant, required=True, help="First instant, UTC; a bare date is midnight.")
@click.option("--to", "end", callback=instant, required=True, help="The instant after the last one.")
@click.option(
    "--prices", "folder", type=click.Path(path_type=Path, file_okay=False), help="A folder of series, found by columns."
)
@_file("--rt", "Settled prices: interval_start_utc, rt_price_usd_per_mwh.")
@_file("--da", "Day-ahead prices: interval_start_utc, da_price_usd_per_mwh.")
@_file("--network", "Hashprice: date_utc, hashprice_usd_per_ph_per_day_derived.")
@click.option("--point", default="HB_HUBAVG", show_default=True, help="Settlement point.")
@click.option("--hold-gaps", is_flag=True, help="Carry the last price over gaps of up to two hours.")
@click.option("--train-until", callback=instant, help="Learn from before this instant.  [default: --from]")
@click.option(
    "--strategy", "strategies", multiple=True, type=click.Choice(sorted({*NAMES, *MIXED_NAMES})), help="Default: all."
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page of charts; it needs no network.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def backtest(preset: str, facility: Path | None, page: Path | None, as_json: bool, **options: Any) -> None:
    """What strategies would have earned on recorded prices, against perfect foresight."""
    if facility is not None and preset != MIXED:
        raise ConfigError(f"--facility FILE is back-tested as a mixed facility: add --preset {MIXED}")
    if preset == MIXED and options["efficiencies"]:
        raise ConfigError(f"{preset} has miners of its own: leave --efficiency-j-per-th out")
    request = _request(preset=preset, **options)
    with _progress() as progress:
        shown = _mixed(request, facility, progress) if preset == MIXED else _single(request, progress)
    if page is not None:
        page.write_text(shown.html(), encoding="utf-8")
        click.echo(f"charts: {page}", err=True)
    if as_json:
        print_json(shown.as_dict)
        return
    print_table(shown.title, shown.columns, shown.rows)
    for line in shown.lines:
        click.echo(line)


@dataclass(frozen=True)
class _Shown:
    """A report, ready to print."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[object, ...]]
    lines: list[str]
    as_dict: dict[str, object]
    html: Callable[[], str]


def _single(request: Request, progress: OnProgress) -> _Shown:
    report = run(request, progress)
    minutes = f"{report.recorded.prices.step_minutes}-minute prices"
    lines = [*summary(report), *_notes(report.notes)]
    return _Shown(
        f"{_window(request)}, {minutes}, known {request.known.value}: $ per MW",
        COLUMNS, list(rows_of(report)), lines, as_dict(report), lambda: _page().html(report),
    )  # fmt: skip


def _page() -> Any:
    from hcp_pipelines.optimizer.backtest import page  # plotly takes a second to import

    return page


def _mixed(request: Request, facility: Path | None, progress: OnProgress) -> _Shown:
    def html() -> str:
        from hcp_pipelines.optimizer.backtest.mixed import page  # plotly takes a second to import

        return page.html(report)

    site = MIXED_100MW if facility is None else mixed_site(load_facility(facility))
    report = run_mixed(request, site, progress)
    return _Shown(
        f"{facility.name if facility else MIXED}, {_window(request)}, known {request.known.value}: thousands of $",
        mixed.COLUMNS, list(mixed.rows_of(report)), [*mixed.summary(report), *_notes(report.notes)], mixed.as_dict(report), html,
    )  # fmt: skip


def _notes(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


def _window(request: Request) -> str:
    return f"{request.sources.point}, {request.start:%Y-%m-%dT%H:%MZ} to {request.end:%Y-%m-%dT%H:%MZ}"


def _request(
    *, folder: Path | None, rt: Path | None, da: Path | None, network: Path | None, point: str, hold_gaps: bool,
    start: datetime, end: datetime, efficiencies: tuple[float, ...], known: str, hashprice: str,
    strategies: tuple[str, ...], train_until: datetime | None,
    preset: str,
) -> Request:  # fmt: skip
    """The request of the options."""
    if folder is None and preset == MIXED:
        raise ConfigError(f"{preset} needs a folder of prices, capacity prices, demand and its forecast: --prices DIR")
    if folder is None and (rt is None or network is None):
        raise ConfigError(f"{preset} needs prices and hashprice: --prices DIR, or --rt FILE and --network FILE")
    return Request(
        sources=Sources(folder, rt, da, network, point, hold_gaps),
        start=start,
        end=end,
        efficiencies_j_per_th=efficiencies or GOLDEN_EFFICIENCIES_J_PER_TH,
        known=Known(known),
        is_hashprice_same_day=hashprice == "same-day",
        strategies=strategies,
        train_until=train_until,
    )


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(backtest)
