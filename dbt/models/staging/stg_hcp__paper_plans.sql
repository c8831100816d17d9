{# One row a tick and facility. Nothing is dropped here. #}
select
    id as paper_id,
    facility_id,
    control_mode,
    tick_id,
    policy_id,
    decision_price_usd_per_mwh,
    hours,
    usd_actual,
    usd_paper,
    wake_usd,
    devices,
    mw_actual,
    mw_paper,
    simulated_at,
    recorded_at
from {{ source('raw', 'paper_plans') }}
