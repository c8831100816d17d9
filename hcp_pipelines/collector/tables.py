"""Which tables are copied, with which columns and types. How they are read and written is in source and sink.

Appended tables are copied once a row, by id: what changes in a row later does not reach the lake. Of these only two change:
settlement fills `allocation_history.actual_profit` (its copy stays null, what was earned is in `core.hcp__settlement`), and how
long a row of `desired_state` is in force is not copied. Replaced tables are small and are copied whole whenever their content
differs. The SELECT of a table follows from its columns.
"""

from dataclasses import dataclass
from typing import Any

from hcp_pipelines.collector.columns import Column, arrow_schema, columns_of


@dataclass(frozen=True, slots=True)
class Table:
    """A table of `hcp` and its copy in the lake; `written_at` is the column of real time at which a row was written."""

    source: str
    target: str
    columns: tuple[Column, ...]
    written_at: str = ""

    @property
    def schema(self) -> Any:
        """The Arrow schema of the copy."""
        return arrow_schema(self.columns)


APPENDED = (
    Table(
        "price_data",
        "raw.price_ticks",
        columns_of(
            """id int8, stream text, series text, timestamp timestamptz, price_type text, value float8, unit text,
            source text, region text, quality text, quality_reason text, revision int4, metadata jsonb,
            received_at timestamptz, created_at timestamptz"""
        ),
        "created_at",
    ),
    Table(
        "switch_journal",
        "raw.switch_journal",
        columns_of(
            """id int8, event text, facility_id text, owner text, epoch int8, command_id uuid, assignment int4,
            generation int8, group_id text, feeder_id text, wave int4, from_state int2, to_state int2, devices int4,
            refused int4, deferred int4, failed int4, superseded int4, slots bytea, mw_delta float8, tick_id int8,
            policy_id int8, decision_price_usd_per_mwh float8, usd_per_hour float8, reason text, reason_detail text,
            actor text, steps_ms jsonb, simulated_at timestamptz, recorded_at timestamptz"""
        ),
        "recorded_at",
    ),
    Table(
        "policies",
        "raw.policies",
        columns_of(
            """id int8, facility_id text, status text, basis_tick_id int8, solved_at timestamptz,
            refresh_due_at timestamptz, expires_at timestamptz, inventory_generation int8, obligations_version int8,
            schema_version int4, digest text, run_id text, trigger text, published_at timestamptz"""
        ),
        "published_at",
    ),
    Table(
        "paper_plans",
        "raw.paper_plans",
        columns_of(
            """id int8, facility_id text, control_mode text, tick_id int8, policy_id int8,
            decision_price_usd_per_mwh float8, hours float8, usd_actual float8, usd_paper float8, wake_usd float8,
            devices int4, mw_actual float8, mw_paper float8, simulated_at timestamptz, recorded_at timestamptz"""
        ),
        "recorded_at",
    ),
    Table(
        "allocation_history",
        "raw.allocation_history",
        columns_of(
            """id int8, timestamp timestamptz, facility_id text, resource_id text, resource_type text,
            recommended_workload text, actual_workload text, devices int4, expected_profit float8,
            actual_profit numeric, tick_id int8, policy_id int8, created_at timestamptz"""
        ),
        "created_at",
    ),
    Table(
        "profitability_scores",
        "raw.profitability_scores",
        columns_of(
            """id int8, timestamp timestamptz, tick_id int8, resource_id text, workload_type text, score numeric,
            expected_revenue float8, estimated_cost float8, net_profit float8, usd_per_mwh float8, confidence numeric,
            recommendation text, created_at timestamptz"""
        ),
        "created_at",
    ),
    Table(
        "workload_events",
        "raw.workload_events",
        columns_of(
            """id int8, workload_id uuid, customer_id uuid, old_status text, new_status text, is_waiting bool,
            lease_epoch int8, reason text, actor text, occurred_at timestamptz, recorded_at timestamptz, type text,
            tier text, priority int4, gpu_type text, gpu_count int4, estimated_duration_s float8,
            deadline_at timestamptz, facility_id text, usd_per_gpu_hour numeric, retries_left int4, used_gpu_s float8"""
        ),
        "recorded_at",
    ),
    Table(
        "allocation_events",
        "raw.allocation_events",
        columns_of(
            """id int8, allocation_id uuid, workload_id uuid, event text, resources int4, reason text,
            recorded_at timestamptz, lease_epoch int8, devices jsonb"""
        ),
        "recorded_at",
    ),
    Table(
        "workload_checkpoints",
        "raw.workload_checkpoints",
        columns_of(
            """id int8, workload_id uuid, lease_epoch int8, location text, progress_s float8, detail jsonb,
            taken_at timestamptz, recorded_at timestamptz"""
        ),
        "recorded_at",
    ),
    Table(
        "desired_state",
        "raw.desired_state",
        columns_of(
            """id int8, facility_id text, group_id text, state int2, slots bytea, generation int8, priority int2,
            reason text, actor text, valid_from timestamptz, created_at timestamptz, workload_id uuid, lease_epoch int8,
            order_index int4, model text, weights_gib float8, gpus_each int2, load text, checkpoint text"""
        ),
        "created_at",
    ),
    Table(
        "desired_outcomes",
        "raw.desired_outcomes",
        columns_of(
            """id int8, desired_state_id int8, facility_id text, owner_epoch int8, state text, reason text,
            simulated_at timestamptz, recorded_at timestamptz, cause text, slots bytea, tells_saved bool"""
        ),
        "recorded_at",
    ),
    Table(
        "saved_work",
        "raw.saved_work",
        columns_of(
            """id int8, event_id uuid, facility_id text, generation int8, workload_id uuid, slots bytea, checkpoint text,
            problem text, simulated_at timestamptz, recorded_at timestamptz"""
        ),
        "recorded_at",
    ),
    Table(
        "work_stops",  # of those that are settled: before that they have no id
        "raw.work_stops",
        columns_of(
            """id int8, workload_id uuid, lease_epoch int8, facility_id text, first_slot int4, slots bytea, gpu_count int4,
            progress_s float8, saved_s float8, began_s float8, running_since timestamptz, stopped_at timestamptz,
            outcome text, problem text, lost_gpu_s float8, recorded_at timestamptz"""
        ),
        "recorded_at",
    ),
    Table(
        "routing_decisions",
        "raw.routing_decisions",
        columns_of(
            """id int8, workload_id uuid, lease_epoch int8, outcome text, facility_id text, group_id text, devices int4,
            cost_usd_per_hour float8, latency_ms float8, score float8, confidence float8, reason text, explanation jsonb,
            decided_at timestamptz, recorded_at timestamptz, cloud_provider text, cloud_region text, cloud_usd float8,
            cloud_done_at timestamptz"""
        ),
        "recorded_at",
    ),
    Table(
        "billing_terms",
        "raw.billing_terms",
        columns_of(
            """id int8, valid_from timestamptz, noted_at timestamptz, credit_fractions jsonb, reason text,
            recorded_at timestamptz"""
        ),
        "recorded_at",
    ),
)

REPLACED = (
    Table(
        "facilities",
        "raw.facilities",
        columns_of(
            """id text, name text, location jsonb, capacity_mw float8, pue float8, status text, settlement_point text,
            control_mode text, dispatch_regime text, document_version int4, document_digest text, document jsonb,
            obligations_version int8, created_at timestamptz, updated_at timestamptz"""
        ),
    ),
    Table(
        "device_groups",
        "raw.device_groups",
        columns_of(
            """facility_id text, generation int8, group_id text, feeder_id text, type text, model text, firmware text,
            cooling_class text, first_slot int4, devices int4, ladder jsonb, specifications jsonb"""
        ),
    ),
)
