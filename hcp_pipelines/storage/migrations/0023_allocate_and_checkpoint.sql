-- Which devices work holds: all of them or none, each by one, and never longer than the work itself is held.
alter table allocation_headers
    add column lease_epoch bigint not null default 0,      -- of the workload, under which they were allocated
    add column reason text not null default '';
create unique index one_allocation_of_a_workload on allocation_headers (workload_id) where status in ('pending', 'active');
create index allocations_of_header on allocations (header_id) where released_at is null;

create table allocation_events (
    id bigint generated always as identity primary key,
    allocation_id uuid not null references allocation_headers (id),
    workload_id uuid not null references workloads (id),
    event text not null check (event in ('allocation.created', 'allocation.released', 'allocation.failed')),
    resources integer not null,
    reason text not null,
    recorded_at timestamptz not null default clock_timestamp()
);
create index allocation_events_of_workload on allocation_events (workload_id, id);
create trigger append_only before update or delete or truncate on allocation_events
    for each statement execute function refuse_rewrite();

create function check_allocation() returns trigger language plpgsql as $$
begin
    if old.status in ('released', 'failed') then
        raise exception 'allocation already %', old.status using errcode = 'check_violation';
    end if;
    if new.status <> all (case old.status when 'pending' then array['active', 'released', 'failed'] else array['released', 'failed'] end)
    then
        raise exception 'invalid allocation transition from % to %', old.status, new.status using errcode = 'check_violation';
    end if;
    new.updated_at := now();
    return new;
end $$;
create trigger check_life before update of status on allocation_headers
    for each row execute function check_allocation();

-- What is let go is available again, unless it has failed or is being mended meanwhile.
create function follow_allocation() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    lines integer;
begin
    if new.status in ('released', 'failed') then
        with freed as (
            update allocations set released_at = now() where header_id = new.id and released_at is null returning resource_id),
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
create trigger follow after update of status on allocation_headers
    for each row execute function follow_allocation();

create or replace function follow_workload() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    held integer := new.gpu_count * ((new.lease_owner is not null)::integer - coalesce((old.lease_owner is not null)::integer, 0));
    waits boolean := new.queued_at is not null;
    waited boolean := coalesce(old.queued_at is not null, false);
begin
    if held <> 0 or waits <> waited then
        insert into queue_customers as c (customer_id, waiting, gpus)
            values (new.customer_id, greatest(waits::integer - waited::integer, 0), greatest(held, 0))
            on conflict (customer_id) do update
            set waiting = c.waiting + waits::integer - waited::integer, gpus = c.gpus + held;
    end if;
    if waited and (not waits or old.level <> new.level) then
        update queue_flows set waiting = waiting - 1 where customer_id = new.customer_id and level = old.level;
    end if;
    if waits and (not waited or old.level <> new.level) then
        insert into queue_flows as f (customer_id, level, waiting) values (new.customer_id, new.level, 1)
            on conflict (customer_id, level) do update set waiting = f.waiting + 1;
    end if;
    if old.lease_owner is not null and new.lease_owner is null then
        update allocation_headers set status = 'released', reason = new.reason
            where workload_id = new.id and status in ('pending', 'active');
    end if;
    if old.lease_owner is not null and new.charged_gpu_s <> old.charged_gpu_s then
        insert into queue_usage (customer_id, level, gpu_s)
            values (new.customer_id, old.level, new.charged_gpu_s - old.charged_gpu_s);
    end if;
    if old.status is distinct from new.status or waits <> waited then
        insert into workload_events (workload_id, customer_id, old_status, new_status, is_waiting, lease_epoch, reason, actor, occurred_at)
            values (new.id, new.customer_id, old.status, new.status, waits, new.lease_epoch, new.reason, new.actor, new.changed_at);
        perform pg_notify('hcp_workload', '');
    end if;
    return null;
end $$;
-- Where work can go on from; written under the epoch that holds it, so that a lost node's late word is none.
create table workload_checkpoints (
    id bigint generated always as identity primary key,
    workload_id uuid not null references workloads (id),
    lease_epoch bigint not null,
    location text not null check (length(location) between 1 and 1000),
    progress_s double precision not null check (progress_s >= 0 and progress_s < 'infinity'),  -- of running that it holds
    detail jsonb not null default '{}',
    taken_at timestamptz not null,            -- world time
    recorded_at timestamptz not null default clock_timestamp()
);
create index workload_checkpoints_newest on workload_checkpoints (workload_id, id desc);
create trigger append_only before update or delete or truncate on workload_checkpoints
    for each statement execute function refuse_rewrite();

grant insert on allocation_headers, allocations, workload_checkpoints to hcp_scheduler;
grant update (status, reason) on allocation_headers to hcp_scheduler;
grant update (status, updated_at) on resources to hcp_scheduler;
grant select on allocation_events, workload_checkpoints to hcp_scheduler, hcp_api, hcp_control, hcp_collector;
