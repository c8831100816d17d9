{# What each miner reported over a UTC day and what the pool credited it. Hours in which it told nothing count as nothing. #}
with told as (
    select
        facility_id,
        slot,
        {{ utc_day('hour_at') }} as day,
        max_by(group_id, hour_at) as group_id,
        cast(count(*) as integer) as hours_told,
        sum(hashrate_th_per_s_avg) / 24 as reported_th_per_s
    from {{ source('core', 'telemetry_1h') }}
    where hashrate_th_per_s_count > 0
    group by all
)

select
    c.facility_id || '/' || c.slot || '/' || {{ utc_day('c.start_at') }} as device_day_id,
    {{ utc_day('c.start_at') }} as day,
    c.facility_id,
    t.group_id,
    c.slot,
    c.worker,
    c.hashrate_th_per_s as credited_th_per_s,
    t.reported_th_per_s,
    t.hours_told,
    c.valid_shares,
    c.stale_shares,
    c.rejected_shares,
    t.reported_th_per_s / nullif(c.hashrate_th_per_s, 0) as reported_fraction,
    {{ is_overclaiming('t.reported_th_per_s', 'c.hashrate_th_per_s', 'c.valid_shares', 't.hours_told') }} as is_overclaiming
from {{ source('raw', 'pool__credits') }} as c
inner join told as t on c.facility_id = t.facility_id and c.slot = t.slot and {{ utc_day('c.start_at') }} = t.day
