{# Each piece of customers' work: what it waited and ran, what interrupted it, what of that was lost, its deadline, and dollars. #}
with billed as (
    select
        workload_id,
        sum(gpu_s) filter (where treatment = 'billed') as billed_gpu_s,
        sum(gpu_s) filter (where treatment <> 'billed') as lost_gpu_s,
        cast(sum(usd) as decimal(18, 6)) as earned_usd,
        count(*) filter (where usd is null) as lines_without_price
    from {{ source('core', 'hcp__billing') }}
    group by workload_id
),

stops as (
    select
        workload_id,
        count(*) as stops,
        count(*) filter (where outcome in ('not_kept', 'untold')) as stops_lost,
        sum(lost_gpu_s) as stops_lost_gpu_s,
        sum(greatest(progress_s - saved_s, 0) * gpu_count) filter (where outcome = 'kept') as stops_kept_gpu_s
    from {{ source('raw', 'work_stops') }}
    group by workload_id
)

select
    workload_id,
    w.customer_id,
    w.type,
    w.tier,
    w.priority,
    w.gpu_type,
    w.gpu_count,
    w.facility_id,
    w.status,
    w.reason,
    w.submitted_at,
    w.started_at,
    w.ended_at,
    w.deadline_at,
    epoch(w.started_at - w.submitted_at) as first_wait_s,
    w.waited_s,
    w.ran_s,
    w.paused_s,
    w.estimated_duration_s,
    w.preemptions,
    w.retries,
    w.used_gpu_s,
    coalesce(b.billed_gpu_s, 0) as billed_gpu_s,
    coalesce(b.lost_gpu_s, 0) as lost_gpu_s,
    coalesce(s.stops, 0) as stops,
    coalesce(s.stops_lost, 0) as stops_lost,
    coalesce(s.stops_lost_gpu_s, 0) as stops_lost_gpu_s,
    coalesce(s.stops_kept_gpu_s, 0) as stops_kept_gpu_s,
    case
        when w.deadline_at is null or w.status = 'cancelled' then null
        when w.status = 'completed' then w.ended_at <= w.deadline_at
        when w.status = 'failed' then false
        when (select max(occurred_at) from {{ ref('stg_hcp__workload_events') }}) > w.deadline_at then false
    end as is_deadline_met,
    b.earned_usd,
    coalesce(b.lines_without_price, 0) as lines_without_price
from {{ ref('core_hcp__workloads') }} as w
left join billed as b using (workload_id)
left join stops as s using (workload_id)
