-- What a device was used and what that cost are in its line as it is let go, an equal part of what the work ran and cost since devices
-- of it were let go last: all lines of work add up to what it cost until then. What runs on without devices (let go by hand) is of the
-- lines that come next.
create or replace function follow_allocations() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    ended uuid[];
    begun uuid[];
begin
    select array_agg(id) filter (where status in ('released', 'failed')), array_agg(id) filter (where status = 'active')
        into ended, begun
        from (select id, status from new_rows except select id, status from old_rows) changes;
    if ended is not null then
        perform from resources where id in (select resource_id from allocations where header_id = any (ended))
            order by id for no key update;
        with spent as (
            select n.id, greatest(coalesce(w.cost, 0) - lines.cost, 0) / greatest(lines.own, 1) as cost,
                   greatest(w.used_gpu_s - lines.gpu_s, 0) / greatest(lines.own, 1) as gpu_s
            from new_rows n join workloads w on w.id = n.workload_id cross join lateral (
                select count(*) filter (where a.header_id = n.id) as own, coalesce(sum(a.cost), 0) as cost,
                       coalesce(sum((a.usage_metrics ->> 'gpu_s')::double precision), 0) as gpu_s
                from allocations a where a.workload_id = n.workload_id) lines
            where n.id = any (ended)),
        freed as (
            update allocations a set released_at = clock_timestamp(), cost = spent.cost,
                usage_metrics = jsonb_build_object('gpu_s', spent.gpu_s)
            from spent where a.header_id = spent.id
            returning a.header_id, a.resource_id),
        back as (
            update resources r set status = 'available', updated_at = now()
            from freed where r.id = freed.resource_id and r.status || '' = 'allocated')
        insert into allocation_events (allocation_id, workload_id, event, resources, reason, lease_epoch)
            select n.id, n.workload_id, 'allocation.' || n.status, coalesce(lines.devices, 0), n.reason, n.lease_epoch
            from new_rows n left join (select header_id, count(*) as devices from freed group by header_id) lines on lines.header_id = n.id
            where n.id = any (ended);
    end if;
    if begun is not null then
        insert into allocation_events (allocation_id, workload_id, event, resources, reason, lease_epoch, devices)
            select n.id, n.workload_id, 'allocation.created', coalesce(lines.devices, 0), n.reason, n.lease_epoch, lines.parts
            from new_rows n cross join lateral (
                select sum(devices) as devices,
                       jsonb_agg(jsonb_build_object('facility_id', facility_id, 'group_id', group_id, 'slots', slots)
                                 order by facility_id, group_id) as parts
                from (select r.facility_id, r.group_id, count(*) as devices, jsonb_agg(r.slot order by r.slot) as slots
                      from allocations a join resources r on r.id = a.resource_id
                      where a.header_id = n.id group by r.facility_id, r.group_id) by_group) lines
            where n.id = any (begun);
    end if;
    if coalesce(ended, begun) is not null then
        perform pg_notify('hcp_allocation', '');
    end if;
    return null;
end $$;
alter function follow_allocations() set enable_hashjoin = off;
alter function follow_allocations() set enable_mergejoin = off;
alter function follow_allocations() set enable_seqscan = off;
