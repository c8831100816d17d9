"""An explanation as a page that needs no network: the merit-order curve with the present price on it, and the blocks in words."""

from collections.abc import Sequence
from itertools import accumulate

import plotly.graph_objects as go

from hcp_pipelines.optimizer.explain_words import COLUMNS, lines_of, row_of
from hcp_pipelines.optimizer.pages import div, table, whole
from hcp_pipelines.policy.explaining import BlockWord, Explanation

SEVERAL = 3  # times the middle megawatt's worth, or the price: above it a block is named rather than drawn to scale


def page(found: Explanation, over_it: Sequence[str] = ()) -> str:
    """The page. `over_it`: what goes before the price, in words."""
    parts = [div(curve(found)), table(COLUMNS, [row_of(block) for block in found.blocks])]
    return whole(
        f"{found.facility_id}: why", [*lines_of(found), *(f"before the price: {words}" for words in over_it)], parts
    )


def curve(found: Explanation) -> go.Figure:
    """Blocks by falling worth: a bar from on-strike to off-strike over its megawatts, the worth as a line, the price across."""
    blocks = sorted(found.blocks, key=lambda b: -b.worth_usd_per_mwh)
    ends = list(accumulate(b.mw for b in blocks))
    price = found.price_usd_per_mwh + found.adder_usd_per_mwh
    far, shown = _far(blocks, price)
    above = ", ".join(dict.fromkeys(f"{b.group_id} at {b.worth_usd_per_mwh:,.0f}" for b in far))
    title = "Merit order: what each megawatt is worth, and its band" + (
        f" (above what is shown: {above})" if far else ""
    )
    figure = go.Figure(
        layout={
            "title": title, "height": 480, "barmode": "overlay",
            "xaxis": {"title": "MW, added up", "range": [0.0, ends[-1] if ends else 1.0]},
            "yaxis": {"title": "$/MWh", "range": shown},
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
    figure.add_hline(y=price, line={"color": "red"}, annotation_text=f"price {price:.2f} $/MWh")
    return figure


def _far(blocks: Sequence[BlockWord], price: float) -> tuple[list[BlockWord], list[float] | None]:
    """Blocks worth several times what decides at this price, and the $/MWh to show so that the others can be told apart.

    GPUs at $1,600 a MWh would press miners around $100 into one line. None: all of it.
    """
    half, added = sum(b.mw for b in blocks) / 2, accumulate(b.mw for b in blocks)
    middle = next((b.worth_usd_per_mwh for b, mw in zip(blocks, added, strict=True) if mw >= half), price)
    far = [b for b in blocks if b.on_usd_per_mwh > SEVERAL * max(price, middle)]
    near = [each for b in blocks if b not in far for each in (b.on_usd_per_mwh, b.off_usd_per_mwh)]
    if not far or not near:
        return [], None
    lowest, highest = min(0.0, price, *near), max(price, *near)
    return far, [lowest, highest + 0.15 * (highest - lowest)]


def _hover(block: BlockWord) -> str:
    return (
        f"{block.group_id} {block.from_state} → {block.to_state}<br>{block.mw:.2f} MW, {block.on_then} of {block.devices} on"
        f"<br>on below {block.on_usd_per_mwh:.2f}, off above {block.off_usd_per_mwh:.2f}, worth {block.worth_usd_per_mwh:.2f}"
        f"<br>{block.word}"
    )
