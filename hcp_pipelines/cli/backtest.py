"""`hcp backtest`: strategies on recorded prices against perfect foresight. The arithmetic is in `optimizer.backtest`."""

import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import polars as pl

from hcp_pipelines.cli.common import (
    Command,
    Finite,
    PageFile,
    bars,
    instant,
    print_json,
    print_table,
    settings_of,
    state_dir_option,
)
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.fleet.backtest_site import mixed_site
from hcp_pipelines.fleet.facility_file import load_facility
from hcp_pipelines.forecasting.hours import FORECAST, LOAD, MCPC
from hcp_pipelines.optimizer.backtest.case import Known
from hcp_pipelines.optimizer.backtest.finished import ASIC, MIXED, PRESETS, Finished, run_facility, run_single
from hcp_pipelines.optimizer.backtest.folder import Sources, named
from hcp_pipelines.optimizer.backtest.mixed.hours import WEATHER
from hcp_pipelines.optimizer.backtest.mixed.response.terms import Terms, load_terms
from hcp_pipelines.optimizer.backtest.mixed.run import NAMES as MIXED_NAMES
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW
from hcp_pipelines.optimizer.backtest.record import Run, refuse_unreachable, store
from hcp_pipelines.optimizer.backtest.request import (
    GOLDEN_EFFICIENCIES_J_PER_TH,
    LEAST_J_PER_TH,
    MOST_J_PER_TH,
    MOST_LEAST_MINUTES,
    NAMES,
    Relearn,
    Request,
)
from hcp_pipelines.optimizer.backtest.run import Progress as OnProgress
from hcp_pipelines.settings import Settings


def _file(option: str, text: str) -> Callable[[Command], Command]:
    return click.option(option, type=click.Path(path_type=Path, dir_okay=False, exists=True), help=text)


def _files(option: str, text: str, *kinds: tuple[str, ...]) -> Callable[[Command], Command]:
    """Files of series that are told apart by their columns; one without any of them is refused."""

    def checked(_: click.Context, __: click.Parameter, files: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(named(option, file, *kinds) for file in files)

    kind = click.Path(path_type=Path, dir_okay=False, exists=True)
    return click.option(option, type=kind, multiple=True, callback=checked, help=text)


@click.command("backtest")
@click.option("--preset", type=click.Choice(PRESETS), help=f"What is operated.  [default: {ASIC}; of a file {MIXED}]")
@_file("--facility", "A facility file in place of the mixed preset's miners and GPUs.")
@_file("--response", "Terms of a demand response programme (YAML) that the mixed facility is enrolled in.")
@click.option(
    "--efficiency-j-per-th", "efficiencies", type=Finite(LEAST_J_PER_TH, MOST_J_PER_TH), multiple=True,
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
@_file("--btc", "Bitcoin's price: interval_start_utc, close_usdt; hashprice is then made of it and the network's days.")
@_files("--reserves", "Capacity prices: interval_start_utc, rrs_, ecrs_, nspin_mcpc_usd_per_mw_h.", MCPC)
@_files(
    "--load", "Demand and its day-ahead forecast: interval_start_utc, ercot_load_mw, da_demand_forecast_mw; may be two files.",
    (LOAD,), (FORECAST,),
)  # fmt: skip
@_files("--weather", "Weather: interval_start_utc, temperature_c, dew_point_c.", WEATHER)
@click.option("--point", default="HB_HUBAVG", show_default=True, help="Settlement point.")
@click.option("--hold-gaps", is_flag=True, help="Carry the last price over gaps of up to two hours.")
@click.option("--train-until", callback=instant, help="Learn from before this instant.  [default: --from]")
@click.option(
    "--relearn", type=click.Choice([each.value for each in Relearn]),
    help="Learn anew in the window as months turn, as a platform does.  [default: once, before it]",
)  # fmt: skip
@click.option("--min-up-minutes", type=Finite(0, MOST_LEAST_MINUTES), default=0.0, show_default=True,
              help="Once woken, miners stay on at least that long (not of a mixed facility).")  # fmt: skip
@click.option("--min-down-minutes", type=Finite(0, MOST_LEAST_MINUTES), default=0.0, show_default=True,
              help="Once put to sleep, they stay off at least that long.")  # fmt: skip
@click.option(
    "--strategy", "strategies", multiple=True, type=click.Choice(sorted({*NAMES, *MIXED_NAMES})), help="Default: all."
)
@click.option(
    "--html",
    "page",
    type=PageFile(),
    help="Write a page of charts; it needs no network.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--record/--no-record", "is_recorded", default=None,
    help="Keep the results in the platform's lake: marts.fct_backtest.  [default: where a platform runs]",
)  # fmt: skip
@state_dir_option
@click.pass_context
def backtest(
    context: click.Context, /, preset: str | None, facility: Path | None, response: Path | None, page: Path | None, as_json: bool,
    is_recorded: bool | None, own_state_dir: Path | None, **options: Any,
) -> None:  # fmt: skip
    """What strategies would have earned on recorded prices, against perfect foresight."""
    preset = preset or (ASIC if facility is None else MIXED)
    if facility is not None and preset != MIXED:
        raise ConfigError(f"--facility FILE is back-tested as {MIXED}: leave --preset {preset} out")
    if response is not None and preset != MIXED:
        raise ConfigError(f"--response FILE is of a mixed facility: add --preset {MIXED}")
    if preset == MIXED and options["efficiencies"]:
        raise ConfigError(f"{preset} has miners of its own: leave --efficiency-j-per-th out")
    settings = settings_of(context, own_state_dir)
    request = _request(preset=preset, **options)
    if is_recorded:
        refuse_unreachable(settings)
    run = Run(str(uuid.uuid4()), facility.name if facility else preset, SystemClock().real_now())
    with bars() as progress:
        done = _run(request, run, facility, progress, load_terms(response) if response else None)
    if page is not None:
        page.write_text(done.html(), encoding="utf-8")
        click.echo(f"charts: {page}", err=True)
    _record(settings, done.results, is_recorded)
    if as_json:
        print_json(done.as_dict)
        return
    print_table(done.title, done.columns, done.rows)
    for line in done.lines:
        click.echo(line)


def _run(request: Request, run: Run, facility: Path | None, progress: OnProgress, terms: Terms | None) -> Finished:
    if facility is None and run.subject == ASIC:
        return run_single(request, run, progress)
    site = MIXED_100MW if facility is None else mixed_site(load_facility(facility))
    return run_facility(request, run, site, progress, terms)


def _record(settings: Settings, results: pl.DataFrame, is_wanted: bool | None) -> None:
    """Into the lake of the state directory; without being asked only where there is one, and its absence is no failure."""
    if is_wanted is False or (is_wanted is None and not settings.at("lake").is_dir()):
        return
    try:
        store(settings, results)
    except StorageError as error:
        if is_wanted:
            raise
        click.echo(f"not recorded: {error}", err=True)
        return
    click.echo(f"recorded: run {results['run_id'][0]} in marts.fct_backtest", err=True)


def _request(
    *, folder: Path | None, rt: Path | None, da: Path | None, network: Path | None, btc: Path | None, point: str,
    hold_gaps: bool, reserves: tuple[Path, ...], load: tuple[Path, ...], weather: tuple[Path, ...],
    start: datetime, end: datetime, efficiencies: tuple[float, ...], known: str, hashprice: str,
    strategies: tuple[str, ...], train_until: datetime | None,
    relearn: str | None, min_up_minutes: float, min_down_minutes: float, preset: str,
) -> Request:  # fmt: skip
    """The request of the options."""
    if folder is None and preset == MIXED and not (rt and da and network and reserves and load and weather):
        raise ConfigError(
            f"{preset} needs prices, capacity prices, demand and its forecast, weather and hashprice: --prices DIR, or all of "
            "--rt, --da, --reserves, --load, --weather and --network FILE"
        )
    if folder is None and (rt is None or network is None):
        raise ConfigError(f"{preset} needs prices and hashprice: --prices DIR, or --rt FILE and --network FILE")
    of_mixed = (*reserves, *load, *weather)
    if preset == ASIC and of_mixed:
        click.echo(
            f"not read: {', '.join(file.name for file in of_mixed)}: {ASIC} is energy and switching alone", err=True
        )
    return Request(
        sources=Sources(folder, rt, da, network, point, hold_gaps, of_mixed if preset == MIXED else (), btc),
        start=start,
        end=end,
        efficiencies_j_per_th=efficiencies or GOLDEN_EFFICIENCIES_J_PER_TH,
        known=Known(known),
        is_hashprice_same_day=hashprice == "same-day",
        strategies=strategies,
        train_until=train_until,
        relearn=Relearn(relearn) if relearn else None,
        min_up_minutes=min_up_minutes,
        min_down_minutes=min_down_minutes,
    )


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(backtest)
