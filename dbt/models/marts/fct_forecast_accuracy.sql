{# How good the power price's forecasts of a UTC day were, by settlement point, method and how far ahead. #}
select
    settlement_point || '/' || method || '/' || horizon || '/' || {{ utc_day('day_start_at') }} as score_id,
    settlement_point,
    method,
    horizon,
    {{ utc_day('day_start_at') }} as day,
    cast(forecasts as bigint) as forecasts,
    mae_usd_per_mwh,
    pinball_usd_per_mwh,
    coverage_80,
    coverage_90
from {{ source('core', 'power__forecast_scores') }}
