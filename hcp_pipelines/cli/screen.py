"""The live status that `hcp up` shows on a terminal, and the tables of `hcp status`."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hcp_pipelines.cli.common import plain
from hcp_pipelines.domain.modes import DeviceState


def status_screen(processes: list[dict[str, Any]], urls: dict[str, str], loop: dict[str, Any]) -> Group:
    """Processes, ticks, policies and last switches, as one renderable."""
    return Group(_headline(urls, loop), _processes(processes), _switches(loop))


def live_screen(processes: list[dict[str, Any]], urls: dict[str, str], loop: dict[str, Any]) -> Group:
    """The same for the terminal that `hcp up` runs on."""
    return Group(status_screen(processes, urls, loop), Text("Ctrl-C stops everything.", style="dim"))


def _headline(urls: dict[str, str], loop: dict[str, Any]) -> Text:
    switches, policies = loop.get("switches", {}), loop.get("policies", {})
    latency = loop.get("latency_ms", {}).get("tick_to_ack", {})
    ticks = sum(stream["count"] for stream in loop.get("ticks", {}).values())
    parts = [
        f"simulated {loop.get('simulated_at', '–')[:19]}",
        f"Dagster UI {urls.get('dagster', '–')}",
        f"ticks {ticks}",
        f"policies {policies.get('count', 0)}",
        f"devices switched: acked {switches.get('acked', 0)}, settled {switches.get('settled', 0)}",
    ]
    if latency.get("p95") is not None:
        parts.append(f"tick to ack p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms")
    telemetry = loop.get("telemetry", {})
    if telemetry.get("lag_s") is not None:
        parts.append(f"telemetry {telemetry['rows_per_s'] or 0:,.0f} rows/s, {telemetry['lag_s']:.0f} s behind")
    standing = [f"{name} {count}" for name, count in loop.get("standing", {}).items() if count]
    if standing:
        parts.append(f"operators: {', '.join(standing)} (hcp directives)")
    unsettled = [f"{name} {one['kind']}" for name, one in loop.get("discovery", {}).items() if one["kind"] != "applied"]
    if unsettled:
        parts.append(f"discovery: {', '.join(unsettled)} (hcp facility discovery)")
    away = [
        f"{name}: {one['said'].removeprefix(f'{name}: ')}"
        for name, one in loop.get("devices", {}).items()
        if _is_away(one)
    ]
    if away:
        parts.append(f"devices: {'; '.join(away)} (hcp doctor)")
    if loop.get("memory_mb"):
        parts.append(f"memory {loop['memory_mb'] / 1000:.2f} GB (PSS)")
    return Text("  ·  ".join(parts), style="bold")


def _is_away(contact: dict[str, Any]) -> bool:
    """Whether there is something to say about who answers."""
    return bool(contact["problem"] or contact["silent"] or contact["dark"] or contact["unidentified"])


def _processes(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim")
    for column in ("process", "state", "pid", "restarts", ""):
        table.add_column(column)
    for row in rows:
        style = "green" if row["healthy"] else "yellow"
        reason = row["reason"].splitlines()[0][:100] if row["reason"] else ""
        table.add_row(
            row["name"], Text(row["state"], style=style), str(row["pid"] or ""), str(row["restarts"]), plain(reason)
        )
    return table


def _switches(loop: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="dim", title="last switches", title_justify="left", title_style="dim")
    for column in ("simulated", "facility", "group", "to", "commanded", "acked", "settled", "$/MWh", "why"):
        table.add_column(column)
    for row in loop.get("switches", {}).get("last", []):
        price = row["decision_price_usd_per_mwh"]
        table.add_row(
            row["simulated_at"][:19],
            row["facility_id"],
            row["group_id"],
            DeviceState(row["to_state"]).label,
            *(str(row[key] if row[key] is not None else "…") for key in ("commanded", "acked", "settled")),
            f"{price:.2f}" if price is not None else "",
            plain(row["reason"]),
        )
    return table
