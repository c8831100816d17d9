-- A device is let go, and is marked or forgiven, by whoever has its row: looked at in the next statement, which sees what the one
-- before has done. Else a release that was not committed yet left a forgiven device allocated to nobody, for ever.
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
        with freed as (
            update allocations set released_at = clock_timestamp() where header_id = any (ended)
            returning header_id, resource_id),
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

-- Who lets many pieces of work go in one transaction takes their devices one piece after the other, in no order. So nobody marks devices
-- who would wait for one and hold another: all at once, or none and again a little later, within some seconds.
create or replace function mark_quarantined() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    quarantined integer[] := array(select jsonb_array_elements_text(coalesce(new.memory -> 'quarantined_slots', '[]'))::integer);
    tries_left integer := 250;
begin
    loop
        begin
            if tries_left > 0 then
                perform from resources
                    where facility_id = new.facility_id and (slot = any (quarantined) or metadata ->> 'failed_by' = 'quarantine')
                    order by id for no key update nowait;
            else
                perform from resources
                    where facility_id = new.facility_id and (slot = any (quarantined) or metadata ->> 'failed_by' = 'quarantine')
                    order by id for no key update;
            end if;
            exit;
        exception when lock_not_available then
            tries_left := tries_left - 1;
        end;
        perform pg_sleep(0.02);
    end loop;
    update resources set status = 'failed', metadata = metadata || '{"failed_by": "quarantine"}', updated_at = now()
        where facility_id = new.facility_id and slot = any (quarantined) and status in ('available', 'allocated');
    update resources r set metadata = metadata - 'failed_by', updated_at = now(),
            status = case when exists (select from allocations a where a.resource_id = r.id and a.released_at is null)
                then 'allocated' else 'available' end
        where facility_id = new.facility_id and status = 'failed' and metadata ->> 'failed_by' = 'quarantine'
            and slot <> all (quarantined);
    return null;
end $$;
