"""What a good row is of customers' work: its steps, devices and checkpoints as copied, what became of desired states, bills."""

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType
from hcp_pipelines.orchestration.history.model import Model
from hcp_pipelines.workloads.billing.runs import BILLED, TREATMENTS

OUTCOMES = ("holding", "turned_down", "refused", "settled")  # of `desired_outcomes`
WORK: tuple[tuple[str, str, Model], ...] = (  # table, the column that what is newest goes by, rows
    (
        "workload_events",
        "occurred_at",
        Model(
            {
                "id": pl.Int64, "workload_id": pl.String, "customer_id": pl.String, "old_status": pl.String,
                "new_status": pl.String, "is_waiting": pl.Boolean, "lease_epoch": pl.Int64, "occurred_at": INSTANT,
                "type": pl.String, "gpu_count": pl.Int32, "usd_per_gpu_hour": pl.Float64, "used_gpu_s": pl.Float64,
            },
            ("id",),
            nullable=frozenset({"old_status", "usd_per_gpu_hour"}),
            bounds={"gpu_count": (1, 1e7), "usd_per_gpu_hour": (0.0, 10_000.0), "used_gpu_s": (0.0, 1e13)},
            rules={
                "a known class": pl.col("type").is_in(list(WorkloadType)),
                "a known state": pl.col("new_status").is_in(list(WorkloadState)),
            },
        ),
    ),
    (
        "allocation_events",
        "recorded_at",
        Model(
            {
                "id": pl.Int64, "allocation_id": pl.String, "workload_id": pl.String, "event": pl.String,
                "resources": pl.Int32, "lease_epoch": pl.Int64, "devices": pl.String,
            },
            ("id",),
            nullable=frozenset({"devices"}),
            bounds={"resources": (0, 1e7)},
            rules={
                "who got devices has some": (pl.col("event") != "allocation.created") | pl.col("devices").is_not_null()
            },
        ),
    ),
    (
        "workload_checkpoints",
        "taken_at",
        Model(
            {
                "id": pl.Int64, "workload_id": pl.String, "lease_epoch": pl.Int64, "progress_s": pl.Float64,
                "taken_at": INSTANT,
            },
            ("id",),
            bounds={"progress_s": (0.0, 1e10)},
        ),
    ),
    (
        "desired_outcomes",
        "simulated_at",
        Model(
            {
                "id": pl.Int64, "desired_state_id": pl.Int64, "facility_id": pl.String, "state": pl.String,
                "simulated_at": INSTANT,
            },
            ("id",),
            rules={"a known outcome": pl.col("state").is_in(OUTCOMES)},
        ),
    ),
)  # fmt: skip
BILLED_ROWS = Model(
    {
        "start_at": INSTANT, "customer_id": pl.String, "workload_id": pl.String, "treatment": pl.String, "gpu_s": pl.Float64,
        "energy_mwh": pl.Float64, "usd": pl.Float64,
    },
    nullable=frozenset({"energy_mwh", "usd"}),
    bounds={"gpu_s": (0.0, 1e9), "energy_mwh": (0.0, 1e4), "usd": (-1e9, 1e9)},
    rules={
        "a known treatment": pl.col("treatment").is_in(TREATMENTS),
        "what is not billed costs nothing": (pl.col("treatment") == BILLED) | (pl.col("usd") == 0),
    },
)  # fmt: skip
