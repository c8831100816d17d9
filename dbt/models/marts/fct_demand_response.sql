{# What was sold to the grid: asked, delivered, met or not, and what it brought and cost as settled. #}
with lines as (
    select
        o.obligation_id,
        l.kind,
        cast(l.usd as double)
        / count(*) over (partition by l.facility_id, l.start_at, l.kind, l.group_id, l.detail) as usd
    from {{ source('core', 'hcp__settlement') }} as l
    inner join {{ source('raw', 'hcp__grid_obligations') }} as o
        on
            l.facility_id = o.facility_id
            and l.detail = o.programme
            and l.start_at >= time_bucket(interval '15 minutes', o.start_at)
            and l.start_at < o.end_at
    where l.kind in ('reserves', 'demand_response', 'penalties') and (l.kind <> 'penalties' or o.status = 'failed')
),

money as (
    select
        obligation_id,
        sum(usd) filter (where kind <> 'penalties') as paid_usd,
        sum(usd) filter (where kind = 'penalties') as penalty_usd
    from lines
    group by obligation_id
)

select
    o.obligation_id,
    o.facility_id,
    o.programme,
    o.tranche,
    o.status,
    o.start_at,
    o.end_at,
    {{ operating_day('o.start_at') }} as operating_day,
    epoch(o.end_at - o.start_at) / 3600 as hours,
    o.mw as asked_mw,
    o.delivered_fraction is not null as was_called,
    o.delivered_fraction,
    o.mw * o.delivered_fraction as delivered_mw,
    case o.status when 'settled' then true when 'failed' then false end as is_met,
    m.paid_usd,
    m.penalty_usd,
    o.reason
from {{ source('raw', 'hcp__grid_obligations') }} as o
left join money as m using (obligation_id)
