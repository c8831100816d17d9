{# How much of a group was in use, by minute. Days of which the minutes' rows or samples differ from what is here are made anew. #}
{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='day', on_schema_change='append_new_columns') }}
with minutes as (
    select *, {{ utc_day('minute_at') }} as day
    from {{ source('core', 'telemetry_group_1min') }}
)

{% if is_incremental() %}
, changed as (
    select day
    from (select day, count(*) as n, sum(samples) as samples from minutes group by day)
    left join (select day, count(*) as n, sum(samples) as samples from {{ this }} group by day) as made using (day, n, samples)
    where made.day is null
)
{% endif %}

select
    m.facility_id || '/' || m.generation || '/' || m.group_id || '/' || epoch_us(m.minute_at) as group_minute_id,
    m.facility_id,
    m.group_id,
    m.generation,
    m.minute_at,
    m.day,
    g.devices,
    m.devices as devices_telling,
    m.samples,
    m.power_kw,
    g.devices * g.full_power_kw as full_power_kw,
    m.power_kw / nullif(g.devices * g.full_power_kw, 0) as power_fraction,
    m.hashrate_th_per_s,
    g.devices * g.full_hashrate_th_per_s as full_hashrate_th_per_s,
    m.hashrate_th_per_s / nullif(g.devices * g.full_hashrate_th_per_s, 0) as hashrate_fraction,
    m.temperature_celsius_avg as temperature_celsius,
    cast(m.temperature_celsius_max as double) as hottest_celsius
from minutes as m
left join {{ ref('dim_device_groups') }} as g using (facility_id, generation, group_id)
{% if is_incremental() %} where m.day in (select day from changed) {% endif %}
