"""What became of the samples: every one that was kept, in the lake, once; and its minutes say the same. By sequence numbers."""

from collections.abc import Mapping
from typing import Any

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.roles import Role

_SAMPLES = """
    select facility_id, seq, count(*) as rows, max(slot) - min(slot) + 1 as slots, sum(slot) as sum, min(slot) as first
    from lake.raw.telemetry group by facility_id, seq"""
_FACILITIES = f"""
    select facility_id, count(*), sum(rows), sum(greatest(rows - slots, 0)), sum(greatest(slots - rows, 0)),
           count(*) filter (where sum != slots * first + slots * (slots - 1) // 2), max(slots)
    from ({_SAMPLES}) group by facility_id"""  # noqa: S608
_BYTES = "select sum(data_file_size_bytes), count(*) from ducklake_list_files('lake', '{table}', schema => '{schema}')"


def judge(settings: Settings, produced: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Rows lost and doubled, and what they take on disk. The slots of a facility of the demo have no gap."""
    with lake.attach(settings, Role.LAKE_READER, read_only=True, memory="4GB") as connection:
        found = {str(row[0]): [int(n) for n in row[1:]] for row in connection.execute(_FACILITIES).fetchall()}
        size, files = connection.execute(_BYTES.format(schema="raw", table="telemetry")).fetchall()[0]
        minutes = connection.execute("select sum(samples), count(*) from lake.core.telemetry_1min").fetchall()[0]
    missing = sum(
        (one["kept"] - found.get(name, [0] * 6)[0]) * found.get(name, [0] * 6)[5] for name, one in produced.items()
    )
    stored = sum(row[1] for row in found.values())
    return {
        "kept_samples": sum(one["kept"] for one in produced.values()),
        "stored_rows": stored,
        "lost_rows": missing + sum(row[3] for row in found.values()),
        "duplicate_rows": sum(row[2] for row in found.values()),
        "samples_with_wrong_slots": sum(row[4] for row in found.values()),
        "bytes_per_row": round(float(size or 0) / max(stored, 1), 2),
        "files": int(files),
        "rolled_up_rows": int(minutes[0] or 0),
        "minute_rows": int(minutes[1]),
    }
