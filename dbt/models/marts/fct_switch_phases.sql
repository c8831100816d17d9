{# Switches of what ran by facility, UTC day and states: what the control plane took phase by phase, and what the devices took.

The gateway's milliseconds are real ones, to the agent's yes; the devices' are of their own clock, which in a simulated world is the
world's. #}
with told as (
    select
        *,
        {{ utc_day('simulated_at') }} as day,
        {{ state_name('from_state') }} as from_name,
        {{ state_name('to_state') }} as to_name,
        coalesce(device_pause_ms, 0) + coalesce(device_checkpoint_ms, 0) + coalesce(device_switch_ms, 0)
        + coalesce(device_start_ms, 0) as device_ms
    from {{ source('raw', 'gateway_switches') }}
    qualify row_number() over (partition by facility_id, command_id, assignment, node, seq order by stored_at desc) = 1
)

select
    facility_id || '/' || day || '/' || from_name || '/' || to_name as switch_phases_id,
    facility_id,
    day,
    from_name as from_state,
    to_name as to_state,
    count(*) as switches,
    cast(sum(devices) as bigint) as devices,
    count(*) filter (where is_success) as succeeded,
    count(*) filter (where outcome = 'rolled_back') as rolled_back,
    count(*) filter (where outcome = 'stuck') as stuck,
    quantile_cont(control_ms, 0.5) as control_p50_ms,
    quantile_cont(control_ms, 0.95) as control_p95_ms,
    quantile_cont(control_pause_ms, 0.95) as pause_p95_ms,
    quantile_cont(control_checkpoint_ms, 0.95) as checkpoint_p95_ms,
    quantile_cont(control_switch_ms, 0.95) as switch_p95_ms,
    quantile_cont(control_start_ms, 0.95) as start_p95_ms,
    quantile_cont(device_ms / 1000, 0.5) as device_p50_s,
    quantile_cont(device_ms / 1000, 0.95) as device_p95_s,
    sum(control_ms) / nullif(sum(control_ms) + sum(device_ms), 0) as control_fraction
from told
group by facility_id, day, from_name, to_name
