{# By UTC day and facility: dollars as it was and on paper, where the control mode keeps the policy from acting. #}
select
    facility_id,
    cast(timezone('UTC', simulated_at) as date) as day,
    facility_id || '/' || cast(timezone('UTC', simulated_at) as date) as facility_day,
    sum(hours) as hours,
    sum(usd_actual) as usd_actual,
    sum(usd_paper) as usd_paper,
    sum(usd_paper) - sum(usd_actual) as gain_usd,
    sum(wake_usd) as wake_usd,
    cast(sum(devices) as bigint) as devices_changed,
    sum(mw_actual * hours) / nullif(sum(hours), 0) as mean_mw_actual,
    sum(mw_paper * hours) / nullif(sum(hours), 0) as mean_mw_paper
from {{ ref('stg_hcp__paper_plans') }}
group by all
