"""What our pages are made of: one file each, plotly's own script (about 5 MB) inside, so that they need no network."""

import html as escaping
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.2em .8em;text-align:right;border:1px solid #ccc;white-space:nowrap}"
    ".wide{overflow-x:auto}@media(max-width:40em){body{margin:.6em}}"
)


def whole(title: str, notes: Iterable[str], parts: Iterable[str]) -> str:
    """A page: its title, a paragraph a note, and parts that are HTML already."""
    body = [f"<h1>{escaping.escape(title)}</h1>", *(f"<p>{escaping.escape(note)}</p>" for note in notes), *parts]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    head += f"<title>{escaping.escape(title)}</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>'


def document(
    title: str,
    notes: Iterable[str],
    cells: tuple[Sequence[str], Iterable[Sequence[object]]],
    sections: Iterable[tuple[str, list[go.Figure]]],
) -> str:
    """A page of notes, one table and figures under their headings."""
    parts = [table(*cells)]
    for heading, figures in sections:
        parts += [f"<h2>{escaping.escape(heading)}</h2>", *(div(figure) for figure in figures)]
    return whole(title, notes, parts)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; on a narrow screen it scrolls by itself."""
    head = "".join(f"<th>{escaping.escape(c)}</th>" for c in columns)
    body = ("".join(f"<td>{escaping.escape(str(cell))}</td>" for cell in row) for row in rows)
    rows_of = "".join(f"<tr>{row}</tr>" for row in body)
    return f'<div class="wide"><table><tr>{head}</tr>{rows_of}</table></div>'


def div(figure: go.Figure) -> str:
    """A figure."""
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config={"responsive": True}))
