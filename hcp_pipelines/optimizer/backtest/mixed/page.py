"""A mixed facility's report as one HTML page that needs no network: dollars by kind against break_even, and day by day."""

import plotly.graph_objects as go
import polars as pl

from hcp_pipelines.optimizer.backtest.mixed.ledger import KINDS
from hcp_pipelines.optimizer.backtest.mixed.report import COLUMNS, rows_of
from hcp_pipelines.optimizer.backtest.mixed.run import MixedReport
from hcp_pipelines.optimizer.pages import document


def html(report: MixedReport, title: str) -> str:
    """The page; plotly's own script (about 5 MB) is in it."""
    return document(title, report.notes, (COLUMNS, rows_of(report)), [("", [_kinds(report), _over_time(report)])])


def _kinds(report: MixedReport) -> go.Figure:
    base = report.ledgers["break_even"].parts()
    figure = go.Figure(layout={"title": "Dollars over break_even, by kind", "height": 400, "barmode": "relative"})
    names = [name for name in report.ledgers if name != "break_even"]
    for kind in KINDS:
        figure.add_bar(x=names, y=[report.ledgers[name].parts()[kind] - base[kind] for name in names], name=kind)
    return figure


def _over_time(report: MixedReport) -> go.Figure:
    base = report.ledgers["break_even"].net_usd
    when = pl.Series(report.world.cases[0].starts_us).cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%d")
    gains = {name: ledger.net_usd - base for name, ledger in report.ledgers.items() if name != "break_even"}
    days = pl.DataFrame({"when": when} | gains).group_by("when").agg(pl.all().sum()).sort("when")
    figure = go.Figure(layout={"title": "Dollars over break_even, added up", "height": 400})
    for name in gains:
        figure.add_scatter(x=days["when"].to_list(), y=days[name].cum_sum().to_list(), name=name)
    return figure
