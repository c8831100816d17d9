{# Every reduction of load: why, how many MW, and how long until the devices' own power showed it. #}
with switched as (
    select
        switch_id as curtailment_id,
        facility_id,
        group_id,
        reason,
        reason_detail,
        actor,
        tick_id,
        decision_price_usd_per_mwh,
        from_state,
        to_state,
        devices_commanded,
        devices_settled,
        -mw_delta as mw,
        -mw_delta * devices_settled / nullif(devices_commanded, 0) as mw_settled,
        usd_per_hour,
        commanded_at,
        commanded_simulated_at as reduced_at,
        date_diff('millisecond', commanded_at, acked_at) as command_to_ack_ms,
        epoch(settled_simulated_at - commanded_simulated_at) as time_to_meter_s
    from {{ ref('core_hcp__switches') }}
    where mw_delta < 0
),

found as (
    select
        'found/' || j.journal_id as curtailment_id,
        j.facility_id,
        j.group_id,
        j.reason,
        j.reason_detail,
        j.actor,
        null::bigint as tick_id,
        null::double as decision_price_usd_per_mwh,
        j.from_state,
        j.to_state,
        j.devices as devices_commanded,
        j.devices as devices_settled,
        j.devices * (was.power_kw - became.power_kw) * f.pue / 1000 as mw,
        j.devices * (was.power_kw - became.power_kw) * f.pue / 1000 as mw_settled,
        null::double as usd_per_hour,
        j.recorded_at as commanded_at,
        j.simulated_at as reduced_at,
        null::bigint as command_to_ack_ms,
        0.0 as time_to_meter_s
    from {{ ref('stg_hcp__switch_journal') }} as j
    inner join {{ ref('core_hcp__states') }} as was
        on j.facility_id = was.facility_id and j.generation = was.generation and j.group_id = was.group_id and j.from_state = was.state
    inner join {{ ref('core_hcp__states') }} as became
        on
            j.facility_id = became.facility_id
            and j.generation = became.generation
            and j.group_id = became.group_id
            and j.to_state = became.state
    inner join {{ ref('dim_facilities') }} as f on j.facility_id = f.facility_id
    where j.event = 'observed' and was.power_kw > became.power_kw
),

reduced as (
    select * from switched
    union all
    select * from found
)

select
    * exclude (reduced_at),
    reduced_at,
    {{ operating_day('reduced_at') }} as operating_day,
    case
        when reason in ('economics', 'guard', 'ramp_continuation') then 'price'
        when reason in ('demand_response', 'grid_deployment', 'shed_by_relay') then 'grid'
        when reason in ('operator_override', 'operator_curtailment', 'emergency_stop', 'lockout') then 'operator'
        when reason = 'local_safety' then 'safety'
        else 'platform'
    end as cause
from reduced
