{# Groups of devices of each inventory generation: model, firmware, feeder, and what one device draws and hashes at most. #}
select
    facility_id || '/' || generation || '/' || group_id as device_group_id,
    facility_id,
    generation,
    group_id,
    feeder_id,
    type,
    model,
    firmware,
    cooling_class,
    first_slot,
    devices,
    list_max(cast(json_extract(ladder, '$[*].power_kw') as double[])) as full_power_kw,
    cast(specifications ->> '$.hash_rate_th_per_s' as double) as full_hashrate_th_per_s,
    cast(specifications ->> '$.efficiency_j_per_th' as double) as efficiency_j_per_th,
    specifications ->> '$.gpu_type' as gpu_type,
    generation = max(generation) over (partition by facility_id) as is_current
from {{ source('raw', 'device_groups') }}
