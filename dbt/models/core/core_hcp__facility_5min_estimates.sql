{# What a facility would have earned in five minutes by the states of its devices at their end and the newest scores then. #}
with ticks as (
    select facility_id, scored_at, max(tick_id) as tick_id
    from {{ ref('stg_hcp__profitability_scores') }}
    group by all
),

buckets as (
    select facility_id, unnest(generate_series(time_bucket(interval '5 minutes', min(scored_at)), max(scored_at), interval '5 minutes'))
        as start_at
    from ticks
    group by facility_id
),

at_ticks as (
    select b.facility_id, b.start_at, t.tick_id
    from buckets as b
    asof join ticks as t on b.facility_id = t.facility_id and b.start_at + interval '5 minutes' > t.scored_at
),

present as (
    select
        b.facility_id,
        b.start_at,
        b.tick_id,
        s.group_id,
        s.mode,
        p.devices * s.power_kw * f.pue / 1000 as mw,
        p.devices * s.part / s.devices as share
    from at_ticks as b
    inner join {{ ref('core_hcp__group_states') }} as p
        on
            b.facility_id = p.facility_id
            and b.start_at + interval '5 minutes' > p.from_at
            and b.start_at + interval '5 minutes' <= p.until_at
    inner join {{ ref('core_hcp__states') }} as s
        on p.facility_id = s.facility_id and p.group_id = s.group_id and p.state = s.state and s.is_current
    inner join {{ ref('dim_facilities') }} as f on b.facility_id = f.facility_id
    where p.devices > 0
)

select
    p.facility_id,
    p.start_at,
    any_value(p.tick_id) as tick_id,
    sum(p.mw) as mw,
    coalesce(sum(p.share * s.revenue_usd_per_hour), 0) / 12 as revenue_usd,
    coalesce(sum(p.share * s.cost_usd_per_hour), 0) / 12 as power_cost_usd,
    coalesce(sum(p.share * s.net_usd_per_hour), 0) / 12 as net_usd
from present as p
left join {{ ref('stg_hcp__profitability_scores') }} as s using (tick_id, facility_id, group_id, mode)
group by p.facility_id, p.start_at
