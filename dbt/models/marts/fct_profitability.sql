{# What each group would have earned in each use that it could serve, by tick: the figures that policies were solved on. #}
select
    score_id,
    tick_id,
    facility_id,
    group_id,
    mode,
    scored_at,
    {{ operating_day('scored_at') }} as operating_day,
    revenue_usd_per_hour,
    cost_usd_per_hour,
    net_usd_per_hour,
    net_usd_per_mwh,
    score,
    confidence,
    recommendation
from {{ ref('stg_hcp__profitability_scores') }}
