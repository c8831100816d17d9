-- The last rows of each series, newest instants first: what a restarted feed remembers.
with recursive known as (
    (select stream, series from price_data order by stream, series limit 1)
    union all
    (select next.stream, next.series
     from known
     cross join lateral (
         select p.stream, p.series
         from price_data p
         where (p.stream, p.series) > (known.stream, known.series)
         order by p.stream, p.series
         limit 1
     ) next)
)
select r.*
from known
cross join lateral (
    select p.id, p.stream, p.series, p."timestamp", p.price_type, p.value, p.unit, p.source, p.region, p.quality,
           p.quality_reason, p.revision, p.metadata, p.received_at, p.created_at
    from price_data p
    where p.stream = known.stream and p.series = known.series
    order by p."timestamp" desc, p.revision desc
    limit %(rows_per_series)s
) r
