{# What perfect foresight would have earned on the day beyond what was earned, by facility and UTC day. #}
select
    facility_id || '/' || {{ utc_day('day_at') }} as facility_day_id,
    facility_id,
    {{ utc_day('day_at') }} as day,
    mw,
    hours,
    oracle_usd,
    realised_usd,
    break_even_usd,
    regret_usd,
    regret_usd_per_mw_day,
    gap_closed
from {{ source('core', 'hcp__regret') }}
