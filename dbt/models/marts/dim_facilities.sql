{# Facilities as their files were applied last, with the devices of their current inventory. #}
with fleets as (
    select
        facility_id,
        any_value(generation) as generation,
        count(*) as device_groups,
        sum(devices) as devices,
        sum(devices) filter (where type = 'ASIC') as miners,
        sum(devices * full_power_kw) / 1000 as full_it_mw
    from {{ ref('dim_device_groups') }}
    where is_current
    group by facility_id
)

select
    f.id as facility_id,
    f.name,
    f.location,
    f.settlement_point,
    f.capacity_mw,
    f.pue,
    f.status,
    f.control_mode,
    f.dispatch_regime,
    f.document_version,
    fleets.generation,
    coalesce(fleets.device_groups, 0) as device_groups,
    cast(coalesce(fleets.devices, 0) as bigint) as devices,
    cast(coalesce(fleets.miners, 0) as bigint) as miners,
    fleets.full_it_mw * f.pue as full_mw,
    f.updated_at
from {{ source('raw', 'facilities') }} as f
left join fleets on f.id = fleets.facility_id
