{# What customers got, by class and UTC day of submission: waits, deadlines kept, and how much of what is over was completed.

What has never run waits too: left out, a day on which a third of the work finds no place would look like a quick one. #}
with work as (
    select
        *,
        case when started_at is not null then first_wait_s when status <> 'cancelled' then waited_s end as wait_s
    from {{ ref('fct_workloads') }}
)

select
    type || '/' || {{ utc_day('submitted_at') }} as service_level_id,
    type,
    {{ utc_day('submitted_at') }} as day,
    count(*) as submitted,
    count(started_at) as started,
    count(*) filter (where status = 'completed') as completed,
    count(*) filter (where status = 'failed') as failed,
    count(*) filter (where status = 'cancelled') as cancelled,
    quantile_cont(wait_s, 0.5) as wait_p50_s,
    quantile_cont(wait_s, 0.95) as wait_p95_s,
    count(is_deadline_met) as deadlines,
    avg(cast(is_deadline_met as integer)) as deadline_hit_rate,
    count(*) filter (where status = 'completed') / nullif(count(*) filter (where status in ('completed', 'failed')), 0)
        as completion_rate,
    cast(sum(preemptions) as bigint) as preemptions,
    cast(sum(retries) as bigint) as retries,
    sum(lost_gpu_s) as lost_gpu_s,
    cast(sum(earned_usd) as decimal(18, 6)) as earned_usd
from work
group by all
