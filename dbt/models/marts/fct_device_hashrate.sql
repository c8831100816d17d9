{# What each miner reported and what the power it drew would have made, by hour in which its power was steady. #}
with hours as (
    select
        t.facility_id,
        t.group_id,
        t.generation,
        t.slot,
        t.hour_at,
        t.samples,
        t.power_kw_avg as power_kw,
        t.hashrate_th_per_s_avg as reported_th_per_s,
        t.power_kw_avg * 1000 / g.efficiency_j_per_th as expected_th_per_s
    from {{ source('core', 'telemetry_1h') }} as t
    inner join {{ ref('dim_device_groups') }} as g using (facility_id, generation, group_id)
    where
        g.efficiency_j_per_th > 0
        and t.hashrate_th_per_s_count > 0
        and t.power_kw_min > 0.9 * t.power_kw_max
        and t.power_kw_avg > 0.5 * g.full_power_kw
)

select
    facility_id || '/' || slot || '/' || epoch_us(hour_at) as device_hour_id,
    *,
    reported_th_per_s / expected_th_per_s as reported_fraction
from hours
