-- What work is billed by, on its events: `workloads` says only how things stand now, and a run's place and rate are the next run's.
alter table workload_events
    add column type text,
    add column tier text,
    add column priority integer,
    add column gpu_type text,
    add column gpu_count integer,
    add column estimated_duration_s double precision,
    add column deadline_at timestamptz,
    add column facility_id text,
    add column usd_per_gpu_hour numeric(12, 6),
    add column retries_left integer,
    add column used_gpu_s double precision;
-- Which devices those are, at its creation: [{"facility_id", "group_id", "slots"}], slots being the facility's.
alter table allocation_events
    add column lease_epoch bigint,
    add column devices jsonb;

create function devices_of_allocation(allocation uuid) returns jsonb language sql stable as $$
    select jsonb_agg(jsonb_build_object('facility_id', g.facility_id, 'group_id', g.group_id, 'slots', g.slots)
                     order by g.facility_id, g.group_id)
    from (select r.facility_id, r.group_id, jsonb_agg(r.slot order by r.slot) as slots
          from allocations a join resources r on r.id = a.resource_id
          where a.header_id = allocation group by r.facility_id, r.group_id) g
$$;
revoke execute on function devices_of_allocation from public;

create function tell_work() returns trigger language plpgsql as $$
begin
    select w.type, w.tier, w.priority, w.gpu_type, w.gpu_count, w.estimated_duration_s, w.deadline_at, w.facility_id,
           w.usd_per_gpu_hour, w.retries_left, w.used_gpu_s
        into new.type, new.tier, new.priority, new.gpu_type, new.gpu_count, new.estimated_duration_s, new.deadline_at,
             new.facility_id, new.usd_per_gpu_hour, new.retries_left, new.used_gpu_s
        from workloads w where w.id = new.workload_id;
    return new;
end $$;
create function tell_devices() returns trigger language plpgsql as $$
begin
    new.lease_epoch := (select lease_epoch from allocation_headers where id = new.allocation_id);
    if new.event = 'allocation.created' then
        new.devices := devices_of_allocation(new.allocation_id);
    end if;
    return new;
end $$;

-- What happened before this has the place and the rate of now.
alter table workload_events disable trigger append_only;
update workload_events e set type = w.type, tier = w.tier, priority = w.priority, gpu_type = w.gpu_type, gpu_count = w.gpu_count,
        estimated_duration_s = w.estimated_duration_s, deadline_at = w.deadline_at, facility_id = w.facility_id,
        usd_per_gpu_hour = w.usd_per_gpu_hour, retries_left = w.retries_left, used_gpu_s = w.used_gpu_s
    from workloads w where w.id = e.workload_id;
alter table workload_events enable trigger append_only;
alter table allocation_events disable trigger append_only;
update allocation_events e set lease_epoch = h.lease_epoch,
        devices = case e.event when 'allocation.created' then devices_of_allocation(h.id) end
    from allocation_headers h where h.id = e.allocation_id;
alter table allocation_events enable trigger append_only;

alter table workload_events
    alter column type set not null, alter column tier set not null, alter column priority set not null,
    alter column gpu_type set not null, alter column gpu_count set not null, alter column estimated_duration_s set not null,
    alter column retries_left set not null, alter column used_gpu_s set not null;
alter table allocation_events alter column lease_epoch set not null;

create trigger tell before insert on workload_events for each row execute function tell_work();
create trigger tell before insert on allocation_events for each row execute function tell_devices();
