{# One row a piece of work, of its steps alone: where it stands, what it waited, ran and stood still, until the newest step of all. #}
with newest as (
    select max(occurred_at) as newest_at from {{ ref('stg_hcp__workload_events') }}
),

steps as (
    select
        e.*,
        epoch(coalesce(e.until_at, n.newest_at) - e.occurred_at) as lasted_s,
        e.new_status = 'paused' and e.is_waiting and coalesce(e.retries, 0) = 0 as is_preemption
    from {{ ref('stg_hcp__workload_events') }} as e
    cross join newest as n
)

select
    workload_id,
    any_value(customer_id) as customer_id,
    any_value(type) as type,
    any_value(tier) as tier,
    any_value(priority) as priority,
    any_value(gpu_type) as gpu_type,
    any_value(gpu_count) as gpu_count,
    any_value(estimated_duration_s) as estimated_duration_s,
    any_value(deadline_at) as deadline_at,
    arg_max(new_status, event_id) as status,
    arg_max(facility_id, event_id) as facility_id,
    arg_max(reason, event_id) as reason,
    arg_max(used_gpu_s, event_id) as used_gpu_s,
    min(occurred_at) as submitted_at,
    min(occurred_at) filter (where new_status = 'running') as started_at,
    max(occurred_at) filter (where new_status in ('completed', 'failed', 'cancelled')) as ended_at,
    coalesce(sum(lasted_s) filter (where is_waiting), 0) as waited_s,
    coalesce(sum(lasted_s) filter (where new_status = 'running'), 0) as ran_s,
    coalesce(sum(lasted_s) filter (where new_status = 'paused' and not is_waiting), 0) as paused_s,
    count(*) filter (where is_preemption) as preemptions,
    cast(coalesce(sum(retries), 0) as bigint) as retries
from steps
group by workload_id
