"""A back-test that is done, whatever was operated, ready for a terminal, a file, a page and the lake.

The command and the Dagster asset both end here. What is run is in `run.py` and `mixed/run.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from hcp_pipelines.optimizer.backtest import record, report
from hcp_pipelines.optimizer.backtest.mixed import report as mixed
from hcp_pipelines.optimizer.backtest.mixed.response.terms import Terms
from hcp_pipelines.optimizer.backtest.mixed.run import run_mixed
from hcp_pipelines.optimizer.backtest.mixed.site import MIXED_100MW, MixedSite
from hcp_pipelines.optimizer.backtest.record import Run
from hcp_pipelines.optimizer.backtest.request import Request
from hcp_pipelines.optimizer.backtest.run import Progress, run

ASIC, MIXED = "asic-1mw", "mixed-100mw"
PRESETS = (ASIC, MIXED)


@dataclass(frozen=True)
class Finished:
    """A report: title, table, lines under it, one JSON object, a page of charts, and rows for the lake."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[object, ...]]
    lines: list[str]
    as_dict: dict[str, object]
    html: Callable[[], str]
    results: pl.DataFrame


def run_single(request: Request, run_of: Run, progress: Progress = lambda *_: None) -> Finished:
    """Back-test one megawatt of miners.

    Raises:
        ConfigError: as `run.run`.
    """
    done = run(request, progress)
    if request.has_least_times:
        times = f"{request.min_up_minutes:g} min up, {request.min_down_minutes:g} down"
        run_of = replace(run_of, subject=f"{run_of.subject}, {times}")

    def html() -> str:
        from hcp_pipelines.optimizer.backtest import page  # plotly takes a second to import

        return page.html(done)

    return Finished(
        report.title(done),
        report.COLUMNS, list(report.rows_of(done)), [*report.summary(done), *_notes(done.notes)], report.as_dict(done), html,
        record.table(list(record.single_rows(done, run_of))),
    )  # fmt: skip


def run_facility(
    request: Request,
    run_of: Run,
    site: MixedSite = MIXED_100MW,
    progress: Progress = lambda *_: None,
    terms: Terms | None = None,
) -> Finished:
    """Back-test a mixed facility, in a demand response programme where there are terms of one.

    Raises:
        ConfigError: as `mixed.run.run_mixed`.
    """
    done = run_mixed(request, site, progress, terms)
    if terms is not None:
        run_of = replace(run_of, subject=f"{run_of.subject}, {terms.label}")
    known = f"known {request.known.value}, hashprice {request.hashprice_known}"
    title = f"{run_of.subject}, {_window(request)}, {known}: thousands of $"

    def html() -> str:
        from hcp_pipelines.optimizer.backtest.mixed import page  # plotly takes a second to import

        return page.html(done, title)

    return Finished(
        title, mixed.COLUMNS, list(mixed.rows_of(done)), [*mixed.summary(done), *_notes(done.notes)],
        mixed.as_dict(done) | {"subject": run_of.subject}, html,
        record.table(list(record.mixed_rows(done, run_of))),
    )  # fmt: skip


def _notes(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


def _window(request: Request) -> str:
    return f"{request.sources.point}, {request.start:%Y-%m-%dT%H:%MZ} to {request.end:%Y-%m-%dT%H:%MZ}"
