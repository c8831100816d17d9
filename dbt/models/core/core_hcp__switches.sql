{# One row a switch: an assignment of a command, its three clocks side by side. A view, so that it is as fresh as raw. #}
{% set facts = ['facility_id', 'group_id', 'feeder_id', 'wave', 'owner', 'epoch', 'generation', 'from_state', 'to_state',
    'from_mode', 'to_mode', 'mw_delta', 'tick_id', 'policy_id', 'decision_price_usd_per_mwh', 'usd_per_hour', 'reason',
    'reason_detail', 'actor'] %}
select
    command_id || '/' || assignment as switch_id,
    command_id,
    assignment,
    {% for fact in facts %}
    {{ of_event(fact, 'commanded') }} as {{ fact }},
    {% endfor %}
    {{ of_event('devices', 'commanded') }} as devices_commanded,
    {{ of_event('devices', 'acked') }} as devices_accepted,
    {{ of_event('refused', 'acked') }} as devices_refused,
    {{ of_event('deferred', 'acked') }} as devices_deferred,
    {{ of_event('devices', 'settled') }} as devices_settled,
    {{ of_event('failed', 'settled') }} as devices_failed,
    {{ of_event('superseded', 'settled') }} as devices_superseded,
    {{ of_event('recorded_at', 'commanded') }} as commanded_at,
    {{ of_event('recorded_at', 'acked') }} as acked_at,
    {{ of_event('recorded_at', 'settled') }} as settled_at,
    {{ of_event('recorded_at', 'expired') }} as expired_at,
    {{ of_event('simulated_at', 'commanded') }} as commanded_simulated_at,
    {{ of_event('simulated_at', 'acked') }} as acked_simulated_at,
    {{ of_event('simulated_at', 'settled') }} as settled_simulated_at
from {{ ref('stg_hcp__switch_journal') }}
where event in ('commanded', 'acked', 'settled', 'expired')
group by command_id, assignment
having bool_or(event = 'commanded')
