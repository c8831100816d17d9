-- A transaction that lets go of devices may have begun before the one that took them: released_at is when it happens.
create or replace function follow_allocation() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    lines integer;
begin
    if new.status in ('released', 'failed') then
        with freed as (
            update allocations set released_at = clock_timestamp() where header_id = new.id and released_at is null returning resource_id),
        back as (
            update resources r set status = 'available', updated_at = now()
            from freed where r.id = freed.resource_id and r.status = 'allocated' returning r.id)
        select count(*) from freed into lines;
    else
        select count(*) from allocations where header_id = new.id into lines;
    end if;
    insert into allocation_events (allocation_id, workload_id, event, resources, reason)
        values (new.id, new.workload_id, 'allocation.' || case new.status when 'active' then 'created' else new.status end, lines, new.reason);
    perform pg_notify('hcp_allocation', '');
    return null;
end $$;
