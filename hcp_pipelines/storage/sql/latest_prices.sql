-- Newest actionable row of each stream, series and source (a GPU type is a series), all price types or one.
select distinct on (stream, series, source)
       id, stream, series, "timestamp", price_type, value, unit, source, region, quality, quality_reason, revision,
       metadata, received_at, created_at
from price_data
where quality in ('good', 'unusual') and (%(price_type)s::text is null or price_type = %(price_type)s)
order by stream, series, source, "timestamp" desc, revision desc
