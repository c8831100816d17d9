"""What `hcp status` and `hcp doctor` tell of telemetry: how much of it is stored, how far behind, and what it takes on disk."""

import json
from datetime import datetime
from typing import Any

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.settings import Settings

STALE_AFTER_S = 15.0  # the collector writes its file each second
LAG_MAX_S = 60.0
ROWS_A_DAY = {
    "telemetry": 86_400,
    "telemetry_1min": 1_440,
    "telemetry_1h": 24,
}  # of a device: samples are one a real second
_SIZES = """
    select table_name, file_size_bytes, rows from ducklake_table_info('lake') join (
        select 'telemetry' as table_name, count(*) as rows from raw.telemetry
        union all select 'telemetry_1min', count(*) from core.telemetry_1min
        union all select 'telemetry_1h', count(*) from core.telemetry_1h) using (table_name)"""


def read_telemetry(settings: Settings) -> dict[str, Any]:
    """What the collector says: `rows`, `rows_per_s` of the last minute, `lag_s`, `shed_samples`; nothing if it says nothing."""
    try:
        seen: dict[str, Any] = json.loads(settings.at("run", "telemetry.json").read_text())
        age_s = (SystemClock().real_now() - datetime.fromisoformat(seen["told_at"])).total_seconds()
    except (OSError, ValueError, KeyError):
        return {}
    return {key: seen[key] for key in ("rows", "rows_per_s", "lag_s", "shed_samples")} if age_s < STALE_AFTER_S else {}


def examine_telemetry(settings: Settings) -> tuple[bool, str]:
    """Whether telemetry is well, and what was found."""
    seen = read_telemetry(settings)
    if not seen:
        return False, "the collector says nothing of it"
    if seen["lag_s"] is None:
        return True, "none yet"
    found = f"{seen['rows_per_s'] or 0:,.0f} rows/s, {seen['lag_s']:.0f} s behind{_sizes(settings)}"
    if seen["shed_samples"]:
        found += f"; gateways gave up {seen['shed_samples']} samples for want of room"
    return seen["lag_s"] <= LAG_MAX_S and not seen["shed_samples"], found


def _sizes(settings: Settings) -> str:
    """Measured bytes of a device's day, by table."""
    from hcp_pipelines.storage.query import run_select  # brings DuckDB: not for every process that looks

    try:
        rows = run_select(settings, _SIZES).rows
    except HcpError:
        return ""
    a_day = {name: size / count * ROWS_A_DAY[name] for name, size, count in rows if count}
    told = [f"{name} {size / 1000:.1f} kB" for name, size in sorted(a_day.items())]
    return f"; a device-day takes {', '.join(told)}" if told else ""
