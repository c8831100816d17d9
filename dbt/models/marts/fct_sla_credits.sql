{# What is owed for each missed deadline of real-time work: its tier's share, as it held on that day, of what the work is billed.

Of terms that hold from one instant the last noted counts. #}
with terms as (
    select * from {{ source('raw', 'billing_terms') }}
    qualify row_number() over (partition by valid_from order by id desc) = 1
),

missed as (
    select
        *,
        timezone('UTC', cast({{ utc_day('deadline_at') }} as timestamp)) as day_at,
        {{ operating_day('deadline_at') }} as operating_day
    from {{ ref('fct_workloads') }}
    where type = 'ai_inference_realtime' and not is_deadline_met
),

shared as (
    select
        m.*,
        coalesce(cast(json_extract_string(t.credit_fractions, '$."' || m.tier || '"') as double), 0) as credit_fraction
    from missed as m
    asof left join terms as t on m.day_at >= t.valid_from
)

select
    workload_id,
    customer_id,
    tier,
    facility_id,
    status,
    deadline_at,
    operating_day,
    ended_at,
    credit_fraction,
    earned_usd as billed_usd,
    cast(round(least(credit_fraction, 1) * coalesce(earned_usd, 0), 6) as decimal(18, 6)) as credit_usd
from shared
