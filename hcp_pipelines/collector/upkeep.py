"""Keeps the lake's files and snapshots few: writes out inlined rows, merges small files, drops what is old.

Over the whole lake, with DuckLake's own calls, while everybody writes and reads. A job of Dagster's does it, on a schedule; a
step that fails is told and comes again with the next run. Which rows are kept for how long is not decided here.
"""

import time
from dataclasses import dataclass

import duckdb

from hcp_pipelines.collector.tables import APPENDED, REPLACED
from hcp_pipelines.collector.telemetry.rollup_sql import GROUP_MINUTES, HOURS, MINUTES
from hcp_pipelines.collector.telemetry.rows import TABLE
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.lake import BATCHES, without_secrets

MEMORY = "512MB"
KEPT = "interval 30 minutes"  # of snapshots and replaced files: longer than any reader's statement may take
LOOKED_BACK = (
    "interval 26 hours"  # the first snapshot of each hour of these stays, for whoever asks what stood yesterday
)
NO_SNAPSHOT = 2**63 - 1  # where none is to go: the call refuses an empty list, and negative numbers
_COUNTED = (*(t.target for t in (*APPENDED, *REPLACED)), TABLE, MINUTES, HOURS, GROUP_MINUTES)
_OURS = ", ".join(f"'{name}'" for name in _COUNTED)

STEPS = {
    # the newest batch of a table says how far its copy has got and is kept for ever
    "forget_batches": f"""
        delete from lake.{BATCHES} b where "table" in ({_OURS}) and written_at < now() - interval 10 minutes
        and written_at < (select max(written_at) from lake.{BATCHES} n where n."table" = b."table")""",  # noqa: S608
    "flush_inlined": "call ducklake_flush_inlined_data('lake')",
    "merge_files": "call ducklake_merge_adjacent_files('lake')",
    "rewrite_files": "call ducklake_rewrite_data_files('lake')",
    "expire_snapshots": f"""
        set variable expired = (
            select coalesce(list(snapshot_id), [{NO_SNAPSHOT}]) from ducklake_snapshots('lake')
            where snapshot_time < now() - {KEPT} and snapshot_id not in (
                select min(snapshot_id) from ducklake_snapshots('lake')
                where snapshot_time > now() - {LOOKED_BACK} group by date_trunc('hour', snapshot_time)));
        call ducklake_expire_snapshots('lake', versions => getvariable('expired'))""",  # noqa: S608
    "remove_files": f"call ducklake_cleanup_old_files('lake', older_than => now() - {KEPT})",
}
_STATE = """
    select sum(file_count)::bigint, sum(file_size_bytes)::bigint, (select count(*) from ducklake_snapshots('lake'))
    from ducklake_table_info('lake')"""


@dataclass(frozen=True, slots=True)
class LakeState:
    """Live data files, their bytes, and snapshots."""

    files: int
    bytes: int
    snapshots: int


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did: the lake before and after, real seconds of each step, and what failed."""

    before: LakeState
    after: LakeState
    took_s: dict[str, float]
    failed: dict[str, str]


def keep_up(settings: Settings) -> Done:
    """Do every step once.

    Raises:
        StorageError: the lake can't be attached.
    """
    took_s, failed = {}, {}
    with lake.attach(settings, memory=MEMORY, threads=1) as connection:
        spill = str(settings.at("run", "upkeep-spill")).replace("'", "''")
        connection.execute(f"set temp_directory = '{spill}'")
        before = _state(connection)
        for name, statement in STEPS.items():
            began_s = time.monotonic()
            try:
                connection.execute(statement).fetchall()
            except duckdb.Error as error:
                failed[name] = without_secrets(error)
            took_s[name] = round(time.monotonic() - began_s, 3)
        return Done(before, _state(connection), took_s, failed)


def _state(connection: duckdb.DuckDBPyConnection) -> LakeState:
    return LakeState(*(int(n or 0) for n in connection.execute(_STATE).fetchall()[0]))
