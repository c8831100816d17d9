"""An explanation as cells and lines, for a terminal, a page and a materialization."""

from hcp_pipelines.policy.explaining import BlockWord, Change, Explanation

COLUMNS = ("group", "step", "MW", "on now", "on then", "on below", "off above", "worth", "margin", "why")


def row_of(block: BlockWord) -> tuple[str, ...]:
    """A block's cells."""
    guard = ", distrusted: goes by ski rental alone" if block.is_distrusted else ""
    return (
        block.group_id, f"{block.from_state} → {block.to_state}", f"{block.mw:.2f}", f"{block.on_now}/{block.devices}",
        f"{block.on_then}/{block.devices}", f"{block.on_usd_per_mwh:.2f}", f"{block.off_usd_per_mwh:.2f}",
        f"{block.worth_usd_per_mwh:.2f}", f"{block.margin_usd_per_mwh:+.2f}", block.word + guard,
    )  # fmt: skip


def lines_of(one: Explanation) -> list[str]:
    """What goes for the whole facility, a line each."""
    adder = f" + {one.adder_usd_per_mwh:.2f} of adders" if one.adder_usd_per_mwh else ""
    indices = ", ".join(
        f"{name} {value:.4g} (solved at {one.anchor_indices[name]:.4g})" for name, value in one.indices.items()
    )
    lines = [
        f"{one.settlement_point} at {one.price_usd_per_mwh:.2f}{adder} $/MWh; {indices or 'no index'}",
        f"{one.mw_now:.3f} → {one.mw_then:.3f} MW; {one.usd_per_hour_now:.2f} → {one.usd_per_hour_then:.2f} $/h",
        "no limit binds" if not one.binding else
        f"{' and '.join(one.binding)} binds: another megawatt would earn {one.shadow_usd_per_mwh:.2f} $/MWh",
        _change("rises", one.rises_at, "falls to"),
        _change("falls", one.falls_at, "rises to"),
    ]  # fmt: skip
    if one.strikes_from:
        lines.append(f"strikes from {one.strikes_from}")
    if one.needs_resolve:
        lines.append(
            f"{', '.join(one.needs_resolve)} left the band in which the strikes hold: a new policy is asked for"
        )
    return lines


def _change(what: str, change: Change | None, how: str) -> str:
    if change is None:
        return f"no price that {how.split()[0]} changes anything"
    groups = ", ".join(change.groups)
    return f"load {what} by {abs(change.mw):.3f} MW when the price {how} {change.price_usd_per_mwh:.2f}: {groups}"
