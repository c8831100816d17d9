{# Each switch: what, why, on which tick and price, by whom, for how much; commanded, acked and settled kept apart. #}
select
    switch_id,
    facility_id,
    group_id,
    feeder_id,
    tick_id,
    decision_price_usd_per_mwh,
    reason,
    reason_detail,
    actor,
    from_state,
    to_state,
    from_mode,
    to_mode,
    devices_commanded,
    devices_accepted,
    devices_refused,
    devices_deferred,
    devices_settled,
    devices_failed,
    devices_superseded,
    mw_delta,
    usd_per_hour,
    commanded_at,
    acked_at,
    settled_at,
    commanded_simulated_at,
    acked_simulated_at,
    settled_simulated_at,
    date_diff('millisecond', commanded_at, acked_at) as command_to_ack_ms,
    date_diff('second', acked_simulated_at, settled_simulated_at) as ack_to_settled_simulated_s,
    case
        when settled_at is not null then 'settled'
        when acked_at is not null then 'acked'
        when expired_at is not null then 'expired'
        else 'commanded'
    end as status,
    policy_id,
    owner,
    epoch,
    generation,
    wave,
    command_id,
    assignment
from {{ ref('core_hcp__switches') }}
