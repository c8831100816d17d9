{# What the pool says that it paid for each UTC day, what its credits are worth, and what settlement has for the same hashes. #}
with credited as (
    select
        {{ utc_day('start_at') }} as day,
        cast(count(*) filter (where hashrate_th_per_s > 0) as integer) as workers,
        sum(hashrate_th_per_s) / 1000 as credited_ph_days
    from {{ source('raw', 'pool__credits') }}
    group by all
),

settled as (
    select
        {{ utc_day('start_at') }} as day,
        cast(sum(usd) as double) as settled_usd,
        cast(count(*) filter (where usd is null) as integer) as lines_without_price
    from {{ source('core', 'hcp__settlement') }}
    where kind in ('mining', 'hash_deviation', 'pool_fee')
    group by all
),

network as (
    select
        {{ utc_day('start_at') }} as day,
        price_usd,
        86400 * pow(10, 15) / (difficulty * pow(2, 32)) * (issuance_btc / blocks + fees_btc_per_block) as btc_per_ph_day
    from {{ source('core', 'bitcoin__network') }}
    where is_over
),

told as (
    select
        {{ utc_day('s.start_at') }} as day,
        c.workers,
        c.credited_ph_days,
        s.earned_btc,
        s.fee_fraction,
        s.luck_of_10_blocks,
        s.luck_of_50_blocks,
        s.luck_of_250_blocks,
        s.told_at,
        c.credited_ph_days * n.btc_per_ph_day * (1 - coalesce(s.fee_fraction, 0)) as expected_btc,
        s.earned_btc * n.price_usd as paid_usd
    from {{ source('raw', 'pool__statements') }} as s
    left join credited as c on {{ utc_day('s.start_at') }} = c.day
    left join network as n on {{ utc_day('s.start_at') }} = n.day
)

select
    told.day,
    told.workers,
    told.credited_ph_days,
    told.earned_btc,
    told.expected_btc,
    told.earned_btc / nullif(told.expected_btc, 0) as paid_fraction,
    coalesce(told.earned_btc < told.expected_btc * (1 - {{ var('pay_tolerated') }}), false) as is_underpaid,
    told.fee_fraction,
    told.luck_of_10_blocks,
    told.luck_of_50_blocks,
    told.luck_of_250_blocks,
    told.told_at,
    told.paid_usd,
    settled.settled_usd,
    settled.lines_without_price,
    told.paid_usd - settled.settled_usd as paid_less_settled_usd
from told
left join settled using (day)
