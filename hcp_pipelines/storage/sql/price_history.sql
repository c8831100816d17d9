-- One price type over [start, end), ascending; of each instant the newest revision that is not absurd.
select *
from (
    select distinct on (stream, series, source, "timestamp")
           id, stream, series, "timestamp", price_type, value, unit, source, region, quality, quality_reason, revision,
           metadata, received_at, created_at
    from price_data
    where price_type = %(price_type)s and "timestamp" >= %(start)s and "timestamp" < %(end)s and quality <> 'absurd'
    order by stream, series, source, "timestamp", revision desc
) newest
order by "timestamp", stream, series, source
limit %(row_limit)s
