"""Events and checkpoints of customers' work as the lake has them, told in seconds."""

from datetime import UTC, datetime, timedelta

import polars as pl

from hcp_pipelines.workloads.billing.runs import CHECKPOINT, EVENT

AT = datetime(2025, 1, 1, tzinfo=UTC)
WORK = {
    "workload_id": "w1", "customer_id": "c1", "type": "model_training", "gpu_type": "H100", "gpu_count": 4,
    "facility_id": "hou-1", "usd_per_gpu_hour": 2.0, "lease_epoch": 1, "retries_left": 3,
}  # fmt: skip


def events(told, first_id=1, **of):
    """Events of one piece of work: (seconds, state) each; 'waiting' is paused and in the queue again."""
    rows = []
    for number, (at, status) in enumerate(told):
        instant = AT + timedelta(seconds=at)
        what = {
            "new_status": "paused" if status == "waiting" else status,
            "is_waiting": status in ("waiting", "queued"),
        }
        rows.append(WORK | of | what | {"id": first_id + number, "occurred_at": instant, "recorded_at": instant})
    return pl.DataFrame([{name: row[name] for name in EVENT} for row in rows], schema=EVENT)


def checkpoints(saved, workload_id="w1"):
    """Checkpoints of one piece of work: (seconds, progress) each."""
    rows = [(workload_id, float(progress), AT + timedelta(seconds=at)) for at, progress in saved]
    return pl.DataFrame(rows, schema=CHECKPOINT, orient="row")
