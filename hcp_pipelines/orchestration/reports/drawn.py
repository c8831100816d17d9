"""What a report is before it is a file, and what the three have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import plotly.graph_objects as go
import polars as pl

Ask = Callable[[str, Sequence[Any]], pl.DataFrame]  # a query of the lake and its parameters → rows


@dataclass(frozen=True)
class Drawn:
    """Title, a paragraph a note, the headline table, and figures under their headings."""

    title: str
    notes: list[str]
    columns: list[str]
    rows: list[list[str]]
    sections: list[tuple[str, list[go.Figure]]]

    def headings(self) -> list[str]:
        """The table's columns in words."""
        return [column.replace("_", " ") for column in self.columns]


def cell(value: object) -> str:
    """A value as a report shows it.

    >>> cell(1234.567), cell(0.034), cell(None), cell(True)
    ('1,234.57', '0.034', '–', 'yes')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | str | date):
        return f"{value:,}" if isinstance(value, int) else str(value)
    number = float(str(value))
    return f"{number:,.2f}" if abs(number) >= 1 or number == 0 else f"{number:.3g}"


def cells(frame: pl.DataFrame) -> list[list[str]]:
    """All rows of a frame as they are shown."""
    return [[cell(value) for value in row] for row in frame.iter_rows()]


def figure(title: str, y: str, *, x: str = "", second: str = "", **layout: object) -> go.Figure:
    """An empty figure; `second` names an axis on the right, for traces with `yaxis="y2"`."""
    axes: dict[str, object] = {"xaxis": {"title": x}, "yaxis": {"title": y, "rangemode": "tozero"}}
    if second:
        axes["yaxis2"] = {"title": second, "overlaying": "y", "side": "right", "showgrid": False}
    return go.Figure(
        layout={"title": title, "height": 420, "legend": {"orientation": "h", "y": -0.2}, **axes, **layout}
    )


def lines(into: go.Figure, frame: pl.DataFrame, by: str, x: str, y: str, **how: object) -> go.Figure:
    """A line for each value of a column, in its order."""
    for (name,), part in frame.group_by(by, maintain_order=True):
        into.add_scatter(x=part[x].to_list(), y=part[y].to_list(), name=str(name), mode="lines", **how)
    return into


def clock(at: datetime) -> str:
    """An instant as a table shows it."""
    return f"{at:%H:%M:%S}Z"
