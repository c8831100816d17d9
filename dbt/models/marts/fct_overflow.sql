{# Work that had no place though a public cloud would have done: where, for how much, and what became of it. Nothing was rented. #}
with decisions as (
    select * from {{ source('raw', 'routing_decisions') }}
),

lacking as (
    select
        workload_id,
        min(decided_at) as first_at,
        max(decided_at) as last_at,
        count(*) as decisions,
        arg_max(cloud_provider, id) as cloud_provider,
        arg_max(cloud_region, id) as cloud_region,
        arg_max(cost_usd_per_hour, id) as cloud_usd_per_hour,
        arg_max(cloud_usd, id) as cloud_usd,
        arg_max(cloud_done_at, id) as cloud_done_at
    from decisions
    where outcome = 'overflow'
    group by workload_id
),

placed as (
    select d.workload_id, min(d.decided_at) as placed_at
    from decisions as d
    inner join lacking as l on d.workload_id = l.workload_id and d.decided_at >= l.first_at
    where d.outcome = 'placed'
    group by d.workload_id
)

select
    workload_id,
    w.customer_id,
    w.type,
    w.tier,
    w.gpu_type,
    w.gpu_count,
    l.first_at,
    l.last_at,
    l.decisions,
    l.cloud_provider,
    l.cloud_region,
    l.cloud_usd_per_hour,
    l.cloud_usd,
    l.cloud_done_at,
    p.placed_at,
    w.status,
    w.deadline_at,
    w.is_deadline_met,
    w.earned_usd
from lacking as l
inner join {{ ref('fct_workloads') }} as w using (workload_id)
left join placed as p using (workload_id)
