"""What was recommended and what was done (EC-18, EC-21): read back by facility. Owners write it with the journal."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.storage.statements import history_rows


@dataclass(frozen=True, slots=True)
class Allocated:
    """One group's row: workloads as mode names, profits in $/h at the decision price; `actual_profit` is None until settled."""

    source_at: datetime
    resource_id: str
    resource_type: str
    recommended_workload: str
    actual_workload: str
    devices: int
    expected_profit: float
    actual_profit: float | None
    tick_id: int | None
    policy_id: int | None


def get_optimal_allocation_history(
    connection: psycopg.Connection[tuple[Any, ...]], facility_id: str, start: datetime, end: datetime
) -> list[Allocated]:
    """Recommended against actual workload, expected against actual profit of a facility over [start, end), ascending.

    Raises:
        ValueError: more rows than HISTORY_ROW_LIMIT: read a shorter window, or the lake.
    """
    of = {"facility_id": facility_id}
    return [Allocated(*row) for row in history_rows(connection, "optimal_allocation_history", of, start, end)]
