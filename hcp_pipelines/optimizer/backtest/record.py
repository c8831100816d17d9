"""A back-test's results as rows of the lake, a strategy each: what `marts.fct_backtest` is made of.

Costs are below zero, as everywhere in a back-test. What a kind of back-test doesn't know is null. Nothing is ever changed there:
who runs the same again adds rows, and the mart says which are the newest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from hcp_pipelines.optimizer.backtest.account import SEED, GapClosed, worst_day, worst_intervals_usd
from hcp_pipelines.optimizer.backtest.mixed.run import MixedReport
from hcp_pipelines.optimizer.backtest.request import Request
from hcp_pipelines.optimizer.backtest.run import Report
from hcp_pipelines.runtime.version import code_version
from hcp_pipelines.settings import Settings

BACKTESTS, REPLAYS = TABLES = "raw.backtests", "raw.replays"
INSTANT = pl.Datetime("us", "UTC")
_TEXT = ("run_id", "kind", "subject", "settlement_point", "strategy", "known", "hashprice")
_SHARES = ("gap_closed", "gap_closed_low", "gap_closed_high", "field_gap_closed")
_DOLLARS = tuple(
    f"{kind}_usd"
    for kind in (
        "net", "mining", "inference", "training", "reserves", "energy", "switching", "reserve_shortfall", "peak_charge",
        "worst_1_percent", "worst_day", "worst_month",
    )
)  # fmt: skip
SCHEMA: dict[str, Any] = (
    dict.fromkeys(_TEXT, pl.String)
    | dict.fromkeys(("window_start_at", "window_end_at", "trained_until"), INSTANT)
    | dict.fromkeys(("mw", "efficiency_j_per_th", "granularity_minutes"), pl.Float64)
    | dict.fromkeys((*_DOLLARS, *_SHARES, "gain_usd_per_mw_year"), pl.Float64)
    | dict.fromkeys(("worst_day", "worst_month"), pl.String)
    | dict.fromkeys(("curtailed_mwh", "switches_per_device_day"), pl.Float64)
    | dict.fromkeys(("peaks_avoided", "peaks", "deadlines_missed", "jobs", "seed"), pl.Int64)
    | dict.fromkeys(("code_version", "data_source", "notes"), pl.String)
    | {"ran_at": INSTANT}
)


@dataclass(frozen=True)
class Run:
    """One run of a back-test: its id, what of, and when (real time)."""

    run_id: str
    subject: str
    ran_at: datetime


def table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Rows as the lake has them; columns that a row lacks are null."""
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=SCHEMA)


def store(settings: Settings, results: pl.DataFrame, name: str = BACKTESTS) -> int:
    """Append a run's results to the platform's lake; rows written: 0 where the run is there already.

    Raises:
        StorageError: the lake can't be reached or written.
    """
    from hcp_pipelines.storage import lake  # duckdb: not for a back-test that is only printed

    return lake.write(settings, name, results, batch_id=str(results["run_id"][0])).rows


def ensure_tables(settings: Settings) -> None:
    """Make the tables, empty, where they are not there yet: the marts are views over them."""
    from hcp_pipelines.storage import lake

    with lake.attach(settings) as connection:
        for name in TABLES:
            lake.write(connection, name, table([]), batch_id="made", settings=settings)


def single_rows(report: Report, run: Run) -> Iterator[dict[str, object]]:
    """Of the miners of one megawatt: a row per efficiency and strategy."""
    shared = _shared(report.request, run, report.recorded.files, report.notes)
    shared |= {"mw": 1.0, "granularity_minutes": float(report.recorded.prices.step_minutes)}
    for efficiency, result in report.results.items():
        for name, account in result.accounts.items():
            yield (
                shared
                | gap_columns(result.gaps[name])
                | {
                    "strategy": name,
                    "efficiency_j_per_th": efficiency,
                    "net_usd": account.total_usd,
                    "mining_usd": account.revenue_usd,
                    "energy_usd": account.energy_usd,
                    "switching_usd": account.switching_usd,
                    "worst_1_percent_usd": account.worst_intervals_usd,
                    "worst_day": account.worst_day,
                    "worst_day_usd": account.worst_day_usd,
                    "curtailed_mwh": account.curtailed_mwh,
                    "switches_per_device_day": account.switches_per_device_day,
                }
            )


def mixed_rows(report: MixedReport, run: Run) -> Iterator[dict[str, object]]:
    """Of a mixed facility: a row a strategy; `mw` is of its miners, which the shares are of."""
    shared = _shared(report.request, run, report.files, report.notes)
    mw = sum(group.mw for group in report.world.site.groups)
    for name, ledger in report.ledgers.items():
        day, day_usd = worst_day(report.world.cases[0].starts_us, ledger.net_usd)
        yield (
            shared
            | gap_columns(report.gaps[name])
            | {f"{kind}_usd": usd for kind, usd in ledger.parts().items()}
            | {
                "strategy": name,
                "mw": mw,
                "granularity_minutes": 60.0 / report.world.steps,
                "net_usd": ledger.total_usd,
                "field_gap_closed": report.field_gaps[name].share,
                "worst_1_percent_usd": worst_intervals_usd(ledger.net_usd),
                "worst_day": day,
                "worst_day_usd": day_usd,
                "curtailed_mwh": ledger.curtailed_mwh,
                "switches_per_device_day": ledger.switches_per_device_day,
                "peaks_avoided": report.sources[name].peaks_avoided,
                "peaks": report.sources[name].peaks,
                "deadlines_missed": ledger.deadlines_missed,
                "jobs": ledger.jobs,
            }
        )


def _shared(request: Request, run: Run, files: Mapping[str, str], notes: Sequence[str]) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "kind": "backtest",
        "subject": run.subject,
        "settlement_point": request.sources.point,
        "known": request.known.value,
        "hashprice": "same-day" if request.is_hashprice_same_day else "previous-day",
        "window_start_at": request.start,
        "window_end_at": request.end,
        "trained_until": request.trained_until,
        "seed": SEED,
        "code_version": code_version(),
        "data_source": json.dumps(dict(files), sort_keys=True),
        "notes": "\n".join(notes),
        "ran_at": run.ran_at,
    }


def gap_columns(gap: GapClosed) -> dict[str, object]:
    """A share of the gap, and what goes with it."""
    return {
        "gap_closed": gap.share,
        "gap_closed_low": gap.low,
        "gap_closed_high": gap.high,
        "gain_usd_per_mw_year": gap.gain_usd_per_mw_year,
        "worst_month": gap.worst_month,
        "worst_month_usd": gap.worst_month_usd,
    }
