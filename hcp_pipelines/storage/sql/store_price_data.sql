-- Records a batch of judged ticks and announces it, in one statement and so one transaction and one round trip.
-- A value already recorded as the last revision of its (stream, series, timestamp) is skipped, another value becomes the
-- next revision: repeating a batch after a crash or a lost reply changes nothing. Only actionable rows are announced.
with incoming as (
    select *
    from unnest(
        %(stream)s::text[], %(series)s::text[], %(holds_from)s::timestamptz[], %(price_type)s::text[], %(value)s::float8[],
        %(unit)s::text[], %(source)s::text[], %(region)s::text[], %(quality)s::text[], %(quality_reason)s::text[],
        %(metadata)s::text[], %(received_at)s::timestamptz[]
    ) with ordinality as batch (
        stream, series, holds_from, price_type, value, unit, source, region, quality, quality_reason,
        metadata, received_at, position
    )
), recorded as (
    insert into price_data (
        stream, series, "timestamp", price_type, value, unit, source, region, quality, quality_reason, revision,
        metadata, received_at
    )
    select i.stream, i.series, i.holds_from, i.price_type, i.value, i.unit, i.source, i.region, i.quality,
           i.quality_reason, coalesce(last.revision + 1, 0), i.metadata::jsonb, i.received_at
    from incoming i
    left join lateral (
        select p.revision, p.value
        from price_data p
        where p.stream = i.stream and p.series = i.series and p."timestamp" = i.holds_from
        order by p.revision desc
        limit 1
    ) last on true
    where last.revision is null or last.value is distinct from i.value
    order by i.position
    on conflict (stream, series, "timestamp", revision) do nothing
    returning id, stream, series, "timestamp", revision, quality, created_at
), announced as (
    select pg_notify('hcp_tick', json_build_object('id', max(id), 'streams', json_agg(distinct stream))::text) as sent
    from recorded
    where quality in ('good', 'unusual')
    having count(*) > 0
)
select r.id, r.stream, r.series, r."timestamp", r.revision, r.quality, r.created_at, (select count(sent) from announced)
from recorded r
order by r.id
