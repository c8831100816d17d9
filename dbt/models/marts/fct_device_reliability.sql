{# What devices did with their commands, by group and UTC day: refused at once, failed to settle, found otherwise than told. #}
with commanded as (
    select
        facility_id,
        generation,
        group_id,
        {{ utc_day('commanded_simulated_at') }} as day,
        count(*) as switches,
        sum(devices_commanded) as devices_commanded,
        coalesce(sum(devices_accepted), 0) as devices_accepted,
        coalesce(sum(devices_refused), 0) as devices_refused,
        coalesce(sum(devices_deferred), 0) as devices_deferred,
        coalesce(sum(devices_settled), 0) as devices_settled,
        coalesce(sum(devices_failed), 0) as devices_failed,
        coalesce(sum(devices_commanded) filter (where reason = 're_drive'), 0) as devices_re_driven,
        avg(epoch(settled_simulated_at - acked_simulated_at)) as ack_to_settled_s
    from {{ ref('core_hcp__switches') }}
    group by all
),

found as (
    select facility_id, generation, group_id, {{ utc_day('simulated_at') }} as day, sum(devices) as devices_found_otherwise
    from {{ ref('stg_hcp__switch_journal') }}
    where event = 'observed'
    group by all
)

select
    facility_id || '/' || generation || '/' || group_id || '/' || day as group_day_id,
    facility_id,
    group_id,
    generation,
    g.type,
    g.model,
    g.firmware,
    day,
    g.devices,
    cast(coalesce(c.switches, 0) as bigint) as switches,
    cast(coalesce(c.devices_commanded, 0) as bigint) as devices_commanded,
    cast(coalesce(c.devices_accepted, 0) as bigint) as devices_accepted,
    cast(coalesce(c.devices_refused, 0) as bigint) as devices_refused,
    cast(coalesce(c.devices_deferred, 0) as bigint) as devices_deferred,
    cast(coalesce(c.devices_settled, 0) as bigint) as devices_settled,
    cast(coalesce(c.devices_failed, 0) as bigint) as devices_failed,
    cast(coalesce(c.devices_re_driven, 0) as bigint) as devices_re_driven,
    cast(coalesce(f.devices_found_otherwise, 0) as bigint) as devices_found_otherwise,
    c.devices_refused / nullif(c.devices_commanded, 0) as refused_fraction,
    c.devices_failed / nullif(c.devices_settled + c.devices_failed, 0) as failed_fraction,
    c.ack_to_settled_s
from commanded as c
full join found as f using (facility_id, generation, group_id, day)
left join {{ ref('dim_device_groups') }} as g using (facility_id, generation, group_id)
