{# The newest word that may be acted on about each value of each series. #}
select
    id as tick_id,
    stream,
    series,
    "timestamp" as start_at,
    value,
    unit,
    source,
    received_at
from {{ source('raw', 'price_ticks') }}
where quality in ('good', 'unusual')
qualify row_number() over (partition by stream, series, "timestamp" order by revision desc, id desc) = 1
