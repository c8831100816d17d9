{# What a device draws in each state of its group's ladder, by inventory generation; `part` is of the most powerful state of
   the same mode, which is what scores are of. #}
with ladders as (
    select
        facility_id || '/' || generation || '/' || group_id as device_group_id,
        facility_id,
        generation,
        group_id,
        devices,
        unnest(cast(ladder as struct(state integer, power_kw double, settle_s double)[])) as step
    from {{ source('raw', 'device_groups') }}
),

steps as (
    select
        device_group_id,
        facility_id,
        generation,
        group_id,
        devices,
        step.state as state,
        step.power_kw as power_kw
    from ladders
)

select
    device_group_id,
    facility_id,
    generation,
    group_id,
    devices,
    generation = max(generation) over (partition by facility_id) as is_current,
    {{ state_name('state') }} as state,
    {{ mode_name('state') }} as mode,
    power_kw,
    power_kw = max(power_kw) over (partition by device_group_id) as is_full,
    power_kw / nullif(max(power_kw) over (partition by device_group_id, {{ mode_name('state') }}), 0) as part
from steps
