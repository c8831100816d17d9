{# Prices of power and of reserves by market, point and interval. What was fetched goes before what the feed saw as it came. #}
with told as (
    select 'real_time' as market, settlement_point as point, start_at, 15 as minutes, price_usd_per_mwh, origin, 0 as rank
    from {{ source('core', 'power__settled_prices') }}
    union all
    select 'real_time', series, start_at, 15, value, 'tick', 1
    from {{ ref('stg_hcp__price_ticks') }}
    where stream = 'power.rt_spp'
    union all
    select 'day_ahead', settlement_point, start_at, 60, price_usd_per_mwh, 'history', 0
    from {{ source('raw', 'ercot__da_spp') }}
    union all
    select 'day_ahead', series, start_at, 60, value, 'tick', 1
    from {{ ref('stg_hcp__price_ticks') }}
    where stream = 'power.da_spp'
    union all
    select 'ancillary', product, start_at, 60, price_usd_per_mw_h, 'history', 0
    from {{ source('raw', 'ercot__da_capacity') }}
)

select
    market || '/' || point || '/' || epoch_us(start_at) as price_id,
    market,
    point,
    start_at,
    start_at + to_minutes(minutes) as end_at,
    {{ operating_day('start_at') }} as operating_day,
    price_usd_per_mwh,
    origin
from told
qualify row_number() over (partition by market, point, start_at order by rank) = 1
