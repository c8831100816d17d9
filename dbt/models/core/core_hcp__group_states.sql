{# Devices by group and state, from each change to the next. A device that no row of the journal names is taken to run at
   full power since before the first row, as settlement takes it. #}
with moves as (
    select facility_id, group_id, acked_simulated_at as changed_at, from_state, to_state, devices_accepted as devices
    from {{ ref('core_hcp__switches') }}
    where acked_simulated_at is not null
    union all
    select facility_id, group_id, settled_simulated_at, to_state, from_state, devices_failed
    from {{ ref('core_hcp__switches') }}
    where settled_simulated_at is not null
    union all
    select facility_id, group_id, simulated_at, from_state, to_state, devices
    from {{ ref('stg_hcp__switch_journal') }}
    where event = 'observed'
),

deltas as (
    select facility_id, group_id, changed_at, unnest([from_state, to_state]) as state, unnest([-devices, devices]) as devices
    from moves
    where from_state is not null and to_state is not null and devices > 0
    union all
    select facility_id, group_id, timestamptz '2000-01-01 00:00:00+00', state, devices
    from {{ ref('core_hcp__states') }}
    where is_current and is_full
),

by_instant as (
    select facility_id, group_id, state, changed_at, sum(devices) as devices
    from deltas
    group by all
)

select
    facility_id,
    group_id,
    state,
    changed_at as from_at,
    lead(changed_at, 1, timestamptz '2200-01-01 00:00:00+00') over (
        partition by facility_id, group_id, state order by changed_at
    ) as until_at,
    greatest(sum(devices) over (partition by facility_id, group_id, state order by changed_at), 0) as devices
from by_instant
