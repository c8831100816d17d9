{# Profit by facility and five minutes: a third of the settled 15 minutes, else an estimate from journal and prices. Made anew are
   the newest two days, days that are not here, and days that were settled since. #}
{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='day', on_schema_change='append_new_columns') }}
with profits as (
    select
        facility_id,
        start_at,
        {{ utc_day('start_at') }} as day,
        e.tick_id,
        coalesce(s.mw, e.mw) as mw,
        coalesce(s.revenue_usd, e.revenue_usd) as revenue_usd,
        coalesce(s.power_cost_usd, e.power_cost_usd) as power_cost_usd,
        coalesce(s.net_usd, e.net_usd) as net_usd,
        s.net_usd is null as is_estimated,
        s.settled_at
    from {{ ref('core_hcp__facility_5min_estimates') }} as e
    full join {{ ref('core_hcp__facility_5min_settled') }} as s using (facility_id, start_at)
)

{% if is_incremental() %}
, known as (
    select facility_id, day, max(settled_at) as settled_at
    from {{ this }}
    group by all
),

wanted as (
    select day
    from (select facility_id, day, max(settled_at) as settled_at from profits group by all) as now_known
    left join known using (facility_id, day)
    where known.day is null or now_known.settled_at is distinct from known.settled_at
    union
    select day from profits where day >= (select max(day) - 1 from known)
)
{% endif %}

select
    b.facility_id || '/' || epoch_us(b.start_at) as facility_5min_id,
    b.facility_id,
    b.start_at,
    b.day,
    {{ operating_day('b.start_at') }} as operating_day,
    b.mw,
    p.price_usd_per_mwh,
    b.revenue_usd,
    b.power_cost_usd,
    b.net_usd,
    b.is_estimated,
    b.tick_id,
    b.settled_at
from profits as b
left join {{ ref('dim_facilities') }} as f on b.facility_id = f.facility_id
left join {{ ref('fct_prices') }} as p
    on
        p.market = 'real_time'
        and f.settlement_point = p.point
        and time_bucket(interval '15 minutes', b.start_at) = p.start_at
{% if is_incremental() %} where b.day in (select day from wanted) {% endif %}
