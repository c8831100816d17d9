{# Where the time of a tick's first wave went, by facility and command: each step apart, in real milliseconds. #}
with waves as (
    select
        facility_id,
        command_id,
        tick_id,
        owner,
        cast(sum(devices) as bigint) as devices_accepted,
        max(recorded_at) as acked_at,
        any_value(steps_ms) as steps_ms
    from {{ ref('stg_hcp__switch_journal') }}
    where event = 'acked' and steps_ms is not null
    group by facility_id, command_id, tick_id, owner
),

since_commit as (
    select
        *,
        {% for step in ['read', 'plan', 'journal', 'send', 'ack'] %}
        cast(json_extract_string(steps_ms, '$.{{ step }}') as double) as {{ step }}_at_ms{{ ',' if not loop.last }}
        {% endfor %}
    from waves
)

select
    command_id,
    facility_id,
    tick_id,
    owner,
    devices_accepted,
    acked_at,
    read_at_ms as read_ms,
    plan_at_ms - read_at_ms as plan_ms,
    journal_at_ms - plan_at_ms as journal_ms,
    send_at_ms - journal_at_ms as send_ms,
    ack_at_ms - send_at_ms as ack_ms,
    ack_at_ms as tick_to_ack_ms
from since_commit
