"""A replay as a table, a page that needs no network, and rows of the lake (kind `replay`)."""

from collections.abc import Iterator, Sequence

import plotly.graph_objects as go
import polars as pl

from hcp_pipelines.optimizer.backtest import record
from hcp_pipelines.optimizer.backtest.finished import Finished
from hcp_pipelines.optimizer.backtest.record import Run
from hcp_pipelines.optimizer.backtest.replay.fleet import KINDS
from hcp_pipelines.optimizer.backtest.replay.history import STEP_H
from hcp_pipelines.optimizer.backtest.replay.run import REALISED, Replay
from hcp_pipelines.optimizer.pages import document

AS_RECORDED = "as-recorded"
COLUMNS = (
    "strategy", "net $", "over realised $", *(f"{kind} $" for kind in KINDS), "gap closed", "MWh off", "switches/device-day",
)  # fmt: skip


def finished(found: Replay, run: Run, settlement_point: str, lines: Sequence[str]) -> Finished:
    """The replay, ready for the UI and the lake; `lines` say what the journal has."""
    title = f"{found.facility_id}, {found.start:%Y-%m-%dT%H:%MZ} to {found.end:%Y-%m-%dT%H:%MZ}, as recorded"
    rows, notes = list(rows_of(found)), [*found.notes, *lines]
    results = record.table(list(_results(found, run, settlement_point, notes)))
    return Finished(
        title, COLUMNS, rows, notes, {"strategies": {row[0]: row[1] for row in rows}}, lambda: _page(found, title, notes), results
    )  # fmt: skip


def rows_of(found: Replay) -> Iterator[tuple[object, ...]]:
    """A row a strategy, the dollars whole; `realised` first."""
    base = float(found.ledgers[REALISED].net_usd.sum())
    for name, ledger in found.ledgers.items():
        share, net = found.gaps[name].share, float(ledger.net_usd.sum())
        yield (
            name, f"{net:,.0f}", f"{net - base:+,.0f}", *(f"{usd:,.0f}" for usd in ledger.parts().values()),
            "" if share is None else f"{share:.2f}", f"{ledger.curtailed_mwh:,.1f}", f"{ledger.switches_per_device_day:.2f}",
        )  # fmt: skip


def _results(found: Replay, run: Run, settlement_point: str, notes: Sequence[str]) -> Iterator[dict[str, object]]:
    source = {"lake": ["raw.price_ticks", "raw.switch_journal"], "hcp": ["policies"]}
    shared = record.run_columns(run, source, notes) | {
        "kind": "replay",
        "settlement_point": settlement_point,
        "known": AS_RECORDED,
        "hashprice": AS_RECORDED,
        "window_start_at": found.start,
        "window_end_at": found.end,
        "trained_until": found.start,
        "mw": found.mw,
        "granularity_minutes": STEP_H * 60,
    }
    for name, ledger in found.ledgers.items():
        columns = record.ledger_columns(ledger, found.history.starts_us)
        yield shared | record.gap_columns(found.gaps[name]) | columns | {"strategy": name}


def _page(found: Replay, title: str, notes: Sequence[str]) -> str:
    when = pl.Series(found.history.starts_us).cast(pl.Datetime("us", "UTC")).to_list()
    base = found.ledgers[REALISED].net_usd
    gained = go.Figure(layout={"title": "Dollars over what was realised, added up", "height": 400})
    drawn = go.Figure(layout={"title": "MW drawn", "height": 400})
    for name, ledger in found.ledgers.items():
        gained.add_scatter(x=when, y=(ledger.net_usd - base).cumsum().tolist(), name=name)
        drawn.add_scatter(x=when, y=ledger.load_mw.tolist(), name=name, line_shape="hv")
    prices = go.Figure(layout={"title": "$/MWh: the decision price, and what its interval settled at", "height": 320})
    prices.add_scatter(x=when, y=found.history.known_usd_per_mwh.tolist(), name="decision price", line_shape="hv")
    prices.add_scatter(x=when, y=found.history.settled_usd_per_mwh.tolist(), name="settled", line_shape="hv")
    return document(title, notes, (COLUMNS, rows_of(found)), [("", [gained, drawn, prices])])
