"""A back-test's results as rows of the lake, a strategy each: what `marts.fct_backtest` is made of.

Costs are below zero, as everywhere in a back-test. What a kind of back-test doesn't know is null. Nothing is ever changed there:
who runs the same again adds rows, and the mart says which are the newest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.optimizer.backtest.account import SEED, GapClosed, worst_day, worst_intervals_usd
from hcp_pipelines.optimizer.backtest.mixed.run import MixedReport
from hcp_pipelines.optimizer.backtest.request import Request
from hcp_pipelines.optimizer.backtest.run import Report
from hcp_pipelines.optimizer.backtest.series import Floats, Ints
from hcp_pipelines.runtime.version import code_version
from hcp_pipelines.settings import Settings

BACKTESTS, REPLAYS = TABLES = "raw.backtests", "raw.replays"
_TEXT = ("run_id", "kind", "subject", "settlement_point", "strategy", "known", "hashprice")
_SHARES = ("gap_closed", "gap_closed_low", "gap_closed_high", "field_gap_closed")
_DOLLARS = tuple(
    f"{kind}_usd"
    for kind in (
        "net", "mining", "inference", "training", "reserves", "energy", "switching", "reserve_shortfall", "peak_charge",
        "response", "response_penalty", "worst_1_percent", "worst_day", "worst_month",
    )
)  # fmt: skip
SCHEMA: dict[str, Any] = (
    dict.fromkeys(_TEXT, pl.String)
    | dict.fromkeys(("window_start_at", "window_end_at", "trained_until"), INSTANT)
    | dict.fromkeys(("mw", "efficiency_j_per_th", "granularity_minutes"), pl.Float64)
    | dict.fromkeys((*_DOLLARS, *_SHARES, "gain_usd_per_mw_year"), pl.Float64)
    | dict.fromkeys(("worst_day", "worst_month"), pl.String)
    | dict.fromkeys(("curtailed_mwh", "switches_per_device_day"), pl.Float64)
    | dict.fromkeys(("peaks_avoided", "peaks", "deadlines_missed", "jobs", "calls_met", "calls", "seed"), pl.Int64)
    | dict.fromkeys(("code_version", "data_source", "notes"), pl.String)
    | {"ran_at": INSTANT}
)


class Booked(Protocol):
    """A facility's ledger, of a back-test or of a replay."""

    @property
    def net_usd(self) -> Floats:
        """By interval."""

    @property
    def curtailed_mwh(self) -> float:
        """Energy not drawn."""

    @property
    def switches_per_device_day(self) -> float:
        """Devices that changed, by device and day."""

    def parts(self) -> dict[str, float]:
        """Dollars by kind."""


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
    from hcp_pipelines.storage import lake, lake_tables  # duckdb: not for a back-test that is only printed

    with lake.attach(settings) as connection:
        lake_tables.ensure(connection, settings, {name: results.to_arrow().schema})
        return lake.write(connection, name, results, batch_id=str(results["run_id"][0]), settings=settings).rows


def refuse_unreachable(settings: Settings) -> None:
    """Raise StorageError where the platform's lake can't be reached: before a back-test that is to be kept, not after it."""
    from hcp_pipelines.storage import lake  # duckdb: not for a back-test that is only printed

    with lake.attach(settings, read_only=True):
        pass


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
        yield (
            shared
            | gap_columns(report.gaps[name])
            | ledger_columns(ledger, report.world.cases[0].starts_us)
            | {
                "strategy": name,
                "mw": mw,
                "granularity_minutes": 60.0 / report.world.steps,
                "field_gap_closed": report.field_gaps[name].share,
                "peaks_avoided": report.sources[name].peaks_avoided,
                "peaks": report.sources[name].peaks,
                "deadlines_missed": ledger.deadlines_missed,
                "jobs": ledger.jobs,
                "calls_met": ledger.calls_met,
                "calls": ledger.calls,
            }
        )


def _shared(request: Request, run: Run, files: Mapping[str, str], notes: Sequence[str]) -> dict[str, object]:
    return run_columns(run, files, notes) | {
        "kind": "backtest",
        "settlement_point": request.sources.point,
        "known": request.known.value,
        "hashprice": request.hashprice_known,
        "window_start_at": request.start,
        "window_end_at": request.end,
        "trained_until": request.trained_until,
    }


def run_columns(run: Run, source: Mapping[str, object], notes: Sequence[str]) -> dict[str, object]:
    """What every row of a run has, whatever its kind."""
    return {
        "run_id": run.run_id,
        "subject": run.subject,
        "seed": SEED,
        "code_version": code_version(),
        "data_source": json.dumps(dict(source), sort_keys=True),
        "notes": "\n".join(notes),
        "ran_at": run.ran_at,
    }


def ledger_columns(ledger: Booked, starts_us: Ints) -> dict[str, object]:
    """Dollars of a facility's ledger by kind, and what was worst; `starts_us` are those of its intervals."""
    day, day_usd = worst_day(starts_us, ledger.net_usd)
    return {f"{kind}_usd": usd for kind, usd in ledger.parts().items()} | {
        "net_usd": float(ledger.net_usd.sum()),
        "worst_1_percent_usd": worst_intervals_usd(ledger.net_usd),
        "worst_day": day,
        "worst_day_usd": day_usd,
        "curtailed_mwh": ledger.curtailed_mwh,
        "switches_per_device_day": ledger.switches_per_device_day,
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
