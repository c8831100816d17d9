{# A third of what was settled for each 15 minutes; `settled_at` is when the day was settled last. #}
with stamps as (
    select facility_id, {{ utc_day('day_at') }} as day, max(settled_at) as settled_at
    from {{ source('core', 'hcp__settled_days') }}
    group by all
),

quarters as (
    select
        facility_id,
        start_at as quarter_at,
        {{ utc_day('start_at') }} as day,
        unnest([0, 5, 10]) as minute,
        cast(sum(usd) as double) / 3 as net_usd,
        -cast(sum(usd) filter (where kind in ('energy', 'adders')) as double) / 3 as power_cost_usd,
        sum(quantity) filter (where kind = 'energy') * 4 as mw
    from {{ source('core', 'hcp__settlement') }}
    group by all
)

select
    facility_id,
    quarter_at + to_minutes(minute) as start_at,
    net_usd + power_cost_usd as revenue_usd,
    power_cost_usd,
    net_usd,
    mw,
    stamps.settled_at
from quarters
left join stamps using (facility_id, day)
