"""An explanation as cells and lines, for a terminal, a page and a materialization."""

from hcp_pipelines.policy.explaining import BlockWord, Change, Explanation
from hcp_pipelines.policy.explaining_work import Served

COLUMNS = ("group", "step", "MW", "on now", "on then", "on below", "off above", "worth", "margin", "why")


def row_of(block: BlockWord) -> tuple[str, ...]:
    """A block's cells."""
    guard = ", distrusted: goes by ski rental alone" if block.is_distrusted else ""
    work = f"{block.work}; " if block.work else ""
    return (
        block.group_id, f"{block.from_state} → {block.to_state}", f"{block.mw:.2f}", f"{block.on_now}/{block.devices}",
        f"{block.on_then}/{block.devices}", f"{block.on_usd_per_mwh:.2f}", f"{block.off_usd_per_mwh:.2f}",
        f"{block.worth_usd_per_mwh:.2f}", f"{block.margin_usd_per_mwh:+.2f}", work + block.word + guard,
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
    lines += _of_work(one.work) if one.work else []
    if one.room_by:
        lines.append(f"room for work to come: {one.room_by}")
    if one.strikes_from:
        lines.append(f"strikes from {one.strikes_from}")
    if one.needs_resolve:
        lines.append(
            f"{', '.join(one.needs_resolve)} left the band in which the strikes hold: a new policy is asked for"
        )
    return lines


def _of_work(work: Served) -> list[str]:
    lines = [f"customers' work asks for {work.asked_gpus} GPUs: {work.running_gpus} may run at this price"]
    for left in work.unserved:
        first, last = left.first_below_usd_per_mwh, left.all_below_usd_per_mwh
        if first is None or last is None:
            lines.append(
                f"{left.workload_type}: {left.gpus} GPUs are worth the price and find no room under the limits"
            )
            continue
        then = f" and all of them below {last:.2f}" if last < first else ""
        lines.append(
            f"{left.workload_type}: {left.gpus} GPUs are not served; they would be, the first below {first:.2f} $/MWh{then}"
        )
    for waits in work.unplaced:
        than = waits.than_usd_per_gpu_hour or 0.0
        why = {
            "no_group": "no group can run it",
            "no_gpus": f"all such GPUs are taken, by work that pays {than:.2f} or more",
            "rate": f"it is sold at {than:.2f}, above what they pay at most",
        }[waits.why]
        lines.append(
            f"{waits.workload_type} on {waits.gpu_type}: {waits.jobs} in the whole queue, for {waits.gpus} GPUs at "
            f"{waits.usd_per_gpu_hour:.2f} $/GPU-hour, have no place: {why}"
        )
    return lines


def _change(what: str, change: Change | None, how: str) -> str:
    if change is None:
        return f"no price that {how.split()[0]} changes anything"
    groups = ", ".join(change.groups)
    return f"load {what} by {abs(change.mw):.3f} MW when the price {how} {change.price_usd_per_mwh:.2f}: {groups}"
