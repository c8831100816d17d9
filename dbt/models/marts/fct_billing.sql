{# What each customer's work used and costs at each facility, by operating day. #}
with stamps as (
    select {{ utc_day('day_at') }} as day, max(billed_at) as billed_at
    from {{ source('core', 'hcp__billed_days') }}
    group by all
)

select
    l.customer_id || '/' || coalesce(l.facility_id, '') || '/' || l.operating_day as billing_id,
    l.customer_id,
    l.facility_id,
    l.operating_day,
    count(distinct l.workload_id) as workloads,
    coalesce(sum(l.gpu_s) filter (where l.treatment = 'billed'), 0) / 3600 as gpu_hours,
    coalesce(sum(l.gpu_s) filter (where l.treatment <> 'billed'), 0) / 3600 as unbilled_gpu_hours,
    cast(coalesce(sum(l.gpu_usd) filter (where l.treatment = 'billed'), 0) as decimal(18, 6)) as gpu_usd,
    coalesce(sum(l.energy_mwh) filter (where l.treatment = 'billed'), 0) as energy_mwh,
    cast(coalesce(sum(l.energy_usd) filter (where l.treatment = 'billed'), 0) as decimal(18, 6)) as energy_usd,
    cast(coalesce(sum(l.usd), 0) as decimal(18, 6)) as usd,
    sum(l.energy_mwh) filter (where l.energy_basis = 'metered') / nullif(sum(l.energy_mwh), 0) as metered_fraction,
    count(*) filter (where l.usd is null) as lines_without_price,
    max(s.billed_at) as billed_at
from {{ source('core', 'hcp__billing') }} as l
left join stamps as s on {{ utc_day('l.start_at') }} = s.day
group by l.customer_id, l.facility_id, l.operating_day
