{# One row a run, efficiency and strategy, of back-tests and of replays. Nothing is dropped here. #}
with results as (
    select * from {{ source('raw', 'backtests') }}
    union all by name
    select * from {{ source('raw', 'replays') }}
)

select
    run_id || '/' || strategy || coalesce('/' || cast(efficiency_j_per_th as varchar), '') as backtest_id,
    *
from results
