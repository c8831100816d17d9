"""An explanation as a page that needs no network: the merit-order curve with the present price on it, and the blocks in words."""

import html as escaping
from collections.abc import Sequence
from itertools import accumulate

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from hcp_pipelines.optimizer.explain_words import COLUMNS, lines_of, row_of
from hcp_pipelines.policy.explaining import BlockWord, Explanation

_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.2em .8em;text-align:right;border:1px solid #ccc}"
)


def page(found: Explanation, over_it: Sequence[str] = ()) -> str:
    """The page; plotly's own script (about 5 MB) is in it. `over_it`: what goes before the price, in words."""
    title = f"{found.facility_id}: why"
    parts = [f"<h1>{escaping.escape(title)}</h1>"]
    parts += [f"<p>{escaping.escape(line)}</p>" for line in (*lines_of(found), *over_it)]
    parts.append(str(curve(found).to_html(full_html=False, include_plotlyjs=False)))
    cells = "".join(f"<th>{escaping.escape(c)}</th>" for c in COLUMNS)
    rows = ("".join(f"<td>{escaping.escape(cell)}</td>" for cell in row_of(block)) for block in found.blocks)
    parts.append(f"<table><tr>{cells}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
    head = f'<meta charset="utf-8"><title>{escaping.escape(title)}</title><style>{_STYLE}</style>'
    return (
        f"<!doctype html><html><head>{head}<script>{get_plotlyjs()}</script></head><body>{''.join(parts)}</body></html>"
    )


def curve(found: Explanation) -> go.Figure:
    """Blocks by falling worth: a bar from on-strike to off-strike over its megawatts, the worth as a line, the price across."""
    blocks = sorted(found.blocks, key=lambda b: -b.worth_usd_per_mwh)
    ends = list(accumulate(b.mw for b in blocks))
    figure = go.Figure(
        layout={
            "title": "Merit order: what each megawatt is worth, and its band", "height": 480, "barmode": "overlay",
            "xaxis": {"title": "MW, added up"}, "yaxis": {"title": "$/MWh"},
        }
    )  # fmt: skip
    for group_id in dict.fromkeys(b.group_id for b in blocks):
        mine = [(b, end) for b, end in zip(blocks, ends, strict=True) if b.group_id == group_id]
        figure.add_bar(
            x=[end - b.mw / 2 for b, end in mine], width=[b.mw for b, _ in mine], name=group_id, opacity=0.6,
            base=[b.on_usd_per_mwh for b, _ in mine], y=[max(b.off_usd_per_mwh - b.on_usd_per_mwh, 0.5) for b, _ in mine],
            hovertext=[_hover(b) for b, _ in mine], hoverinfo="text",
        )  # fmt: skip
    edges = [0.0, *(e for end in ends for e in (end, end))][:-1] if blocks else []
    worth = [w for b in blocks for w in (b.worth_usd_per_mwh, b.worth_usd_per_mwh)]
    figure.add_scatter(x=edges, y=worth, name="worth", mode="lines", line={"color": "black", "width": 1})
    figure.add_hline(
        y=found.price_usd_per_mwh + found.adder_usd_per_mwh, line={"color": "red"},
        annotation_text=f"price {found.price_usd_per_mwh + found.adder_usd_per_mwh:.2f} $/MWh",
    )  # fmt: skip
    return figure


def _hover(block: BlockWord) -> str:
    return (
        f"{block.group_id} {block.from_state} → {block.to_state}<br>{block.mw:.2f} MW, {block.on_then} of {block.devices} on"
        f"<br>on below {block.on_usd_per_mwh:.2f}, off above {block.off_usd_per_mwh:.2f}, worth {block.worth_usd_per_mwh:.2f}"
        f"<br>{block.word}"
    )
