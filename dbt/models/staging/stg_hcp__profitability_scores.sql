{# One row a tick, group and use. Nothing is dropped here. #}
select
    id as score_id,
    tick_id,
    split_part(resource_id, '/', 1) as facility_id,
    split_part(resource_id, '/', 2) as group_id,
    workload_type as mode,
    "timestamp" as scored_at,
    score,
    expected_revenue as revenue_usd_per_hour,
    estimated_cost as cost_usd_per_hour,
    net_profit as net_usd_per_hour,
    usd_per_mwh as net_usd_per_mwh,
    confidence,
    recommendation
from {{ source('raw', 'profitability_scores') }}
