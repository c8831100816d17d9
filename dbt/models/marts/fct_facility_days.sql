{# Profit by facility and operating day: settled dollars by kind, and the estimate of what is not settled yet beside them. #}
with days as (
    select
        facility_id,
        operating_day,
        count(*) / 12.0 as hours,
        count(*) filter (where is_estimated) / 12.0 as estimated_hours,
        sum(mw) / 12 as energy_mwh,
        sum(net_usd) as net_usd,
        coalesce(sum(net_usd) filter (where is_estimated), 0) as estimated_usd,
        max(settled_at) as settled_at
    from {{ ref('fct_facility_5min') }}
    group by facility_id, operating_day
),

settled as (
    select
        facility_id,
        operating_day,
        sum(usd) as settled_usd,
        count(*) filter (where usd is null) as lines_without_price
        {% for kind in settlement_kinds() %}
        , cast(coalesce(sum(usd) filter (where kind = '{{ kind }}'), 0) as decimal(18, 6)) as {{ kind }}_usd
        {% endfor %}
    from {{ source('core', 'hcp__settlement') }}
    group by facility_id, operating_day
)

select
    facility_id || '/' || operating_day as facility_day_id,
    facility_id,
    operating_day,
    d.hours,
    d.estimated_hours,
    d.estimated_hours > 0 as is_estimated,
    d.energy_mwh,
    d.net_usd,
    d.estimated_usd,
    cast(s.settled_usd as decimal(18, 6)) as settled_usd,
    {% for kind in settlement_kinds() %}
    s.{{ kind }}_usd,
    {% endfor %}
    coalesce(s.lines_without_price, 0) as lines_without_price,
    d.settled_at
from days as d
left join settled as s using (facility_id, operating_day)
