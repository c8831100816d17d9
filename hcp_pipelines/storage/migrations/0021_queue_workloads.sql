-- The queue of customers' work. submitted_at, queued_at, changed_at and what follows from them are world time; leases, created_at,
-- updated_at and recorded_at are real.
alter table workloads
    add column number bigint generated always as identity, -- in the order of submission
    add column tier text not null default 'free' check (tier in ('free', 'pro', 'enterprise')),
    add column spec jsonb not null default '{}',            -- as it was asked for; `requirements` has the defaults filled in
    add column classification jsonb not null default '{}',
    add column is_flagged boolean not null default false,
    add column idempotency_key text check (length(idempotency_key) between 1 and 200),
    add column gpu_type text not null default '',
    add column gpu_count integer not null default 1 check (gpu_count > 0),
    add column memory_gb double precision,
    add column estimated_duration_s double precision not null default 3600
        check (estimated_duration_s > 0 and estimated_duration_s < 'infinity'),
    add column is_interruptible boolean not null default true,
    add column deadline_at timestamptz,
    add column submitted_at timestamptz not null default now(),
    add column changed_at timestamptz not null default now(),  -- of the last transition; whoever makes one says when
    add column reason text not null default '',
    add column actor text not null default '',
    -- in the queue: since when, at which level (the priority, less what waiting has lifted it), and before whom of the same customer
    add column queued_at timestamptz,
    add column level smallint check (level between 1 and 10),
    add column ages_at timestamptz,
    add column start_by timestamptz not null default 'infinity',
    -- who holds it, under which number: claims in the queue, and GPUs from then on; free to be claimed once expires_at has passed
    add column lease_owner text,
    add column lease_epoch bigint not null default 0,
    add column lease_expires_at timestamptz not null default '-infinity',
    add column retries_left integer not null default 3 check (retries_left >= 0),
    add column facility_id text references facilities (id),
    add column placement jsonb not null default '{}',
    add column usd_per_gpu_hour numeric(12, 6) check (usd_per_gpu_hour >= 0 and usd_per_gpu_hour < 'infinity'),
    add column running_since timestamptz,
    add column actual_duration_s double precision not null default 0,  -- of all its runs
    add column used_gpu_s double precision not null default 0,
    add column charged_gpu_s double precision not null default 0,      -- to its customer's share: what it has used and may yet use
    add column result jsonb;
update workloads set level = priority, queued_at = case status when 'queued' then submitted_at end;
alter table workloads
    alter column level set not null,
    add constraint waits check (case status when 'queued' then queued_at is not null when 'paused' then true else queued_at is null end),
    add constraint held check (case
        when status in ('scheduled', 'running') then lease_owner is not null
        when status = 'paused' then lease_owner is not null or queued_at is not null
        when status = 'queued' then true else lease_owner is null end);
create unique index workloads_numbered on workloads (number);
create index workloads_of_customer on workloads (customer_id, number);
create unique index workloads_once on workloads (customer_id, idempotency_key) where idempotency_key is not null;
create index workloads_waiting on workloads (customer_id, level, start_by, number) where queued_at is not null;
create index workloads_ageing on workloads (ages_at) where queued_at is not null and ages_at is not null;
create index workloads_leased on workloads (lease_expires_at) where lease_owner is not null;

-- The numbers that an operator may change: shares of levels and tiers, limits, ageing.
create table queue_rules (
    is_only boolean primary key default true check (is_only),
    max_waiting integer not null check (max_waiting > 0),
    level_after_s double precision not null check (level_after_s > 0),     -- of waiting, world time: one level up
    highest_level smallint not null check (highest_level between 1 and 10), -- which waiting reaches
    hold_after_s double precision not null check (hold_after_s > 0),        -- of waiting: smaller work no longer passes by
    half_life_s double precision not null check (half_life_s > 0)           -- of what an absent customer has used too much
);
insert into queue_rules (max_waiting, level_after_s, highest_level, hold_after_s, half_life_s) values (100000, 1800, 2, 3600, 86400);

create table queue_levels (
    level smallint primary key check (level between 1 and 10),
    weight double precision not null check (weight > 0 and weight < 'infinity'),
    max_waiting integer not null check (max_waiting > 0)
);
insert into queue_levels (level, weight, max_waiting)
    select n, w, 50000 from unnest(array[50, 25, 15, 5, 3, 1, 1, 1, 1, 1]) with ordinality as given (w, n);

create table tier_quotas (
    tier text primary key check (tier in ('free', 'pro', 'enterprise')),
    weight double precision not null check (weight > 0 and weight < 'infinity'),
    max_waiting integer not null check (max_waiting >= 0),
    max_gpus integer not null check (max_gpus >= 0),            -- held at a time
    max_retries integer not null check (max_retries >= 0)
);
insert into tier_quotas (tier, weight, max_waiting, max_gpus, max_retries) values
    ('free', 1, 1000, 512, 3), ('pro', 4, 10000, 8192, 3), ('enterprise', 16, 50000, 65536, 5);

-- What one customer has instead of the tier's; null: as the tier.
create table customer_quotas (
    customer_id uuid primary key references customers (id),
    weight double precision check (weight > 0 and weight < 'infinity'),
    max_waiting integer check (max_waiting >= 0),
    max_gpus integer check (max_gpus >= 0),
    max_retries integer check (max_retries >= 0),
    refused_because text not null default '',                   -- not empty: nothing more is taken
    updated_by text not null,
    updated_at timestamptz not null default now()
);

-- Shares. What a customer has used, over its weight, and within it what each level has: claims alone write that. What waits and what
-- is held follow the workloads, by trigger.
create table queue_customers (
    customer_id uuid primary key references customers (id),
    waiting integer not null default 0 check (waiting >= 0),
    gpus integer not null default 0 check (gpus >= 0),
    used double precision not null default 0,
    is_backlogged boolean not null default false,
    left_at timestamptz
);
create index queue_customers_waiting on queue_customers (customer_id) where waiting > 0 or is_backlogged;
create table queue_flows (
    customer_id uuid not null references customers (id),
    level smallint not null check (level between 1 and 10),
    waiting integer not null default 0 check (waiting >= 0),
    used double precision not null default 0,
    is_backlogged boolean not null default false,
    left_at timestamptz,
    primary key (customer_id, level)
);
create index queue_flows_waiting on queue_flows (level) include (waiting) where waiting > 0;

-- What work turned out to use beside what was charged for it; the next claim takes it in.
create table queue_usage (
    id bigint generated always as identity primary key,
    customer_id uuid not null,
    tier text not null,
    level smallint not null,
    gpu_s double precision not null
);

-- Every transition, and every return to the queue.
create table workload_events (
    id bigint generated always as identity primary key,
    workload_id uuid not null references workloads (id),
    customer_id uuid not null,
    old_status text,                          -- null: submitted
    new_status text not null,
    is_waiting boolean not null,
    lease_epoch bigint not null,
    reason text not null,
    actor text not null,
    occurred_at timestamptz not null,         -- world time
    recorded_at timestamptz not null default clock_timestamp(),
    transaction_id xid8 not null default pg_current_xact_id()
);
create index workload_events_order on workload_events (transaction_id, id);
create index workload_events_of_customer on workload_events (customer_id, transaction_id, id);
create index workload_events_of_workload on workload_events (workload_id, id);
create trigger append_only before update or delete or truncate on workload_events
    for each statement execute function refuse_rewrite();
create trigger keep before delete or truncate on workloads
    for each statement execute function refuse_rewrite();

-- The life of a workload (domain/workloads.py has the same table), and what follows from each step.
create function check_workload() returns trigger language plpgsql as $$
declare
    run_s double precision;
begin
    if tg_op = 'INSERT' then
        if new.status <> 'queued' then
            raise exception 'invalid state transition from nothing to %: a workload begins queued', new.status
                using errcode = 'check_violation';
        end if;
        new.level := coalesce(new.level, new.priority);
        new.queued_at := coalesce(new.queued_at, new.submitted_at);
        new.changed_at := new.submitted_at;
        return new;
    end if;
    if new.lease_epoch < old.lease_epoch
        or (old.lease_owner is null and new.lease_owner is not null and new.lease_epoch = old.lease_epoch)
    then
        raise exception 'workload %: epoch % after %: each holder has a higher one', new.id, new.lease_epoch, old.lease_epoch
            using errcode = 'check_violation';
    end if;
    if new.status <> old.status then
        if new.status <> all (case old.status
            when 'queued' then array['scheduled', 'cancelled']
            when 'scheduled' then array['running', 'cancelled', 'queued', 'failed']
            when 'running' then array['completed', 'failed', 'cancelled', 'paused']
            when 'paused' then array['running', 'cancelled', 'scheduled']
            else array[]::text[] end)
        then
            raise exception 'invalid state transition from % to %', old.status, new.status using errcode = 'check_violation';
        end if;
        new.changed_at := greatest(new.changed_at, old.changed_at);
        if old.status = 'running' then
            run_s := greatest(extract(epoch from new.changed_at - old.running_since), 0);
            new.actual_duration_s := old.actual_duration_s + run_s;
            new.used_gpu_s := old.used_gpu_s + run_s * old.gpu_count;
            new.cost := coalesce(old.cost, 0) + (run_s * old.gpu_count / 3600)::numeric * coalesce(old.usd_per_gpu_hour, 0);
            new.running_since := null;
        end if;
        if new.status = 'scheduled' then
            new.scheduled_at := new.changed_at;
        elsif new.status = 'running' then
            new.started_at := coalesce(old.started_at, new.changed_at);
            new.running_since := new.changed_at;
        elsif new.status in ('completed', 'failed', 'cancelled') then
            new.completed_at := new.changed_at;
            new.queued_at := null;
            new.lease_owner := null;
            new.ages_at := null;
        end if;
    end if;
    if old.lease_owner is not null and new.lease_owner is null then
        new.charged_gpu_s := new.used_gpu_s;
    end if;
    new.updated_at := now();
    return new;
end $$;
create trigger check_life before insert or update on workloads
    for each row execute function check_workload();

-- As the owner of the tables: nobody else writes events, or counts what waits.
create function follow_workload() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
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
    if old.lease_owner is not null and new.charged_gpu_s <> old.charged_gpu_s then
        insert into queue_usage (customer_id, tier, level, gpu_s)
            values (new.customer_id, new.tier, old.level, new.charged_gpu_s - old.charged_gpu_s);
    end if;
    if old.status is distinct from new.status or waits <> waited then
        insert into workload_events (workload_id, customer_id, old_status, new_status, is_waiting, lease_epoch, reason, actor, occurred_at)
            values (new.id, new.customer_id, old.status, new.status, waits, new.lease_epoch, new.reason, new.actor, new.changed_at);
        perform pg_notify('hcp_workload', '');
    end if;
    return null;
end $$;
create trigger follow_new after insert on workloads for each row execute function follow_workload();
create trigger follow after update on workloads for each row
    when (old.status is distinct from new.status or (old.queued_at is null) <> (new.queued_at is null) or old.level <> new.level
          or (old.lease_owner is null) <> (new.lease_owner is null) or old.charged_gpu_s <> new.charged_gpu_s)
    execute function follow_workload();

-- All that the API may change of a workload; whether there was one, and that customer's where one is named.
create function cancel_workload(workload uuid, customer uuid, cancelled_at timestamptz, by_whom text, why text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update workloads set status = 'cancelled', changed_at = cancelled_at, actor = by_whom, reason = why
        where id = workload and (customer is null or customer_id = customer);
    return found;
end $$;
revoke execute on function cancel_workload from public;
grant execute on function cancel_workload to hcp_api, hcp_scheduler;

-- The API takes work in and cancels it; the scheduler alone claims it and follows its life.
grant usage on schema public to hcp_scheduler;
grant select on workloads, customers, queue_rules, queue_levels, tier_quotas, customer_quotas, queue_customers, queue_flows,
    queue_usage, workload_events, facilities, feeders, inventory_generations, device_groups, resources, allocation_headers,
    allocations, price_data, latest_prices, policies, process_cursors to hcp_scheduler;
grant update (status, changed_at, reason, actor, queued_at, level, ages_at, lease_owner, lease_epoch, lease_expires_at, retries_left,
    facility_id, placement, usd_per_gpu_hour, charged_gpu_s, result) on workloads to hcp_scheduler;
grant update (used, is_backlogged, left_at) on queue_customers, queue_flows to hcp_scheduler;
grant delete on queue_usage to hcp_scheduler;
grant insert on audit_log, process_cursors to hcp_scheduler;
grant update on process_cursors to hcp_scheduler;
grant select on queue_rules, queue_levels, tier_quotas, customer_quotas, queue_customers, queue_flows, workload_events to hcp_api;
grant insert (customer_id, type, priority, level, requirements, sla_parameters, tier, spec, classification, is_flagged, idempotency_key,
    gpu_type, gpu_count, memory_gb, estimated_duration_s, is_interruptible, deadline_at, submitted_at, ages_at, start_by, retries_left,
    reason, actor) on workloads to hcp_api;
grant insert, update on customer_quotas to hcp_api;
grant update on queue_rules, queue_levels, tier_quotas to hcp_api;
grant select on queue_levels, tier_quotas, queue_customers, queue_flows, workload_events to hcp_control;
grant select on workloads, workload_events to hcp_collector;
