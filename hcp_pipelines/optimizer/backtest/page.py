"""A report as one HTML page that needs no network: what each strategy gained over break_even, day by day and month by month."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from hcp_pipelines.optimizer.backtest.report import COLUMNS, rows_of, title
from hcp_pipelines.optimizer.backtest.run import Report, Result
from hcp_pipelines.optimizer.backtest.series import MICROSECONDS_PER_DAY
from hcp_pipelines.optimizer.pages import document


def html(report: Report) -> str:
    """The page."""
    sections = [
        (f"{efficiency:g} J/TH", [_over_time(result), _by_month(result), _prices(result)])
        for efficiency, result in report.results.items()
    ]
    return document(title(report), report.notes, (COLUMNS, rows_of(report)), sections)


def _gains(result: Result, key: str) -> pl.DataFrame:
    """Dollars over break_even by strategy, summed by a format of the date."""
    base = result.accounts["break_even"].net_usd
    when = pl.Series(result.case.starts_us).cast(pl.Datetime("us", "UTC")).dt.strftime(key)
    gains = {name: account.net_usd - base for name, account in result.accounts.items() if name != "break_even"}
    return pl.DataFrame({"when": when} | gains).group_by("when").agg(pl.all().sum()).sort("when")


def _over_time(result: Result) -> go.Figure:
    days = _gains(result, "%Y-%m-%d")
    figure = go.Figure(layout={"title": "Dollars over break_even, added up", "height": 380})
    for name in days.columns[1:]:
        hidden = "legendonly" if name == "always_on" else True
        figure.add_scatter(x=days["when"].to_list(), y=days[name].cum_sum().to_list(), name=name, visible=hidden)
    return figure


def _by_month(result: Result) -> go.Figure:
    months = _gains(result, "%Y-%m")
    figure = go.Figure(layout={"title": "Dollars over break_even, by month", "height": 340, "barmode": "group"})
    for name in months.columns[1:]:
        hidden = "legendonly" if name == "always_on" else True
        figure.add_bar(x=months["when"].to_list(), y=months[name].to_list(), name=name, visible=hidden)
    return figure


def _prices(result: Result) -> go.Figure:
    """Settled prices of the day that had most switches of the oracle, and who was on."""
    days = result.case.starts_us // MICROSECONDS_PER_DAY
    busiest = int(np.bincount(days - days[0], weights=result.schedules["oracle"].wakes).argmax() + days[0])
    rows = np.flatnonzero(days == busiest)
    when = pl.Series(result.case.starts_us[rows]).cast(pl.Datetime("us", "UTC")).to_list()
    course = result.case.settled.cut(slice(rows[0], rows[-1] + 1))
    figure = go.Figure(
        layout={
            "title": "The busiest day: $/MWh, and who was on",
            "height": 380,
            "yaxis2": {"overlaying": "y", "side": "right", "showticklabels": False, "showgrid": False},
        }
    )
    figure.add_scatter(x=when, y=course.price_usd_per_mwh.tolist(), name="price", line_shape="hv")
    figure.add_scatter(x=when, y=course.revenue_usd_per_mwh.tolist(), name="break-even", line_shape="hv")
    for n, (name, schedule) in enumerate(result.schedules.items()):
        on = schedule.is_on[rows] * 0.8 + n
        figure.add_scatter(x=when, y=on.tolist(), name=f"{name} on", yaxis="y2", line_shape="hv", opacity=0.5)
    return figure
