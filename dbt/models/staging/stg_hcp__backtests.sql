{# One row a run, efficiency and strategy. Nothing is dropped here. #}
select
    run_id || '/' || strategy || coalesce('/' || cast(efficiency_j_per_th as varchar), '') as backtest_id,
    *
from {{ source('raw', 'backtests') }}
