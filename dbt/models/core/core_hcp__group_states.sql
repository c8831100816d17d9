{# Devices by group and state, from each change to the next. Before the first row of the journal: as many in a state as rows
   take out of it before any is told to come in; the others, which no row names, run at full power, as settlement takes them. #}
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
),

by_instant as (
    select facility_id, group_id, state, changed_at, sum(devices) as devices
    from deltas
    group by all
),

sums as (
    select
        facility_id,
        group_id,
        state,
        sum(devices) over (partition by facility_id, group_id, state order by changed_at) as devices
    from by_instant
),

taken as (
    select facility_id, group_id, state, greatest(-min(devices), 0) as devices
    from sums
    group by all
),

ladder as (
    select s.facility_id, s.group_id, s.state, s.is_full, s.devices as all_devices, coalesce(t.devices, 0) as devices
    from {{ ref('core_hcp__states') }} as s
    left join taken as t on s.facility_id = t.facility_id and s.group_id = t.group_id and s.state = t.state
    where s.is_current
),

at_first as (
    select
        facility_id,
        group_id,
        timestamptz '2000-01-01 00:00:00+00' as changed_at,
        state,
        case
            when is_full
                then greatest(devices, all_devices + devices - sum(devices) over (partition by facility_id, group_id))
            else devices
        end as devices
    from ladder
),

changes as (
    select facility_id, group_id, state, changed_at, devices
    from by_instant
    union all
    select facility_id, group_id, state, changed_at, devices
    from at_first
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
from changes
