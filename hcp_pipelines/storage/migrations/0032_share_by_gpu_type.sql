-- Shares by type of GPU: what one has used of a type is held against it there alone. What waits for GPUs that are never free neither
-- holds the others' counters down nor saves anything up for those that are.
alter table workloads add column gpu_types text[];  -- any of these will do, and gpu_type is GPU or ASIC until it is claimed; null: gpu_type
alter table queue_rules add column proof_gpu_s double precision not null default 3600 check (proof_gpu_s > 0);
-- What has ended of a customer's work: GPU-seconds that ran, and those of them that had been said.
alter table queue_customers
    add column said_gpu_s double precision not null default 0,
    add column ran_gpu_s double precision not null default 0,
    add column judged_at timestamptz;                 -- world time; both fade from then on
create table queue_shares (
    customer_id uuid not null references customers (id),
    gpu_type text not null,
    waiting integer not null default 0 check (waiting >= 0),
    used double precision not null default 0,         -- GPU-seconds charged, over the weights of the tier and the levels
    is_backlogged boolean not null default false,
    left_at timestamptz,
    primary key (customer_id, gpu_type)
);
create index queue_shares_waiting on queue_shares (customer_id) where waiting > 0 or is_backlogged;
-- Seconds that work of a class really takes: the median of its customers' medians.
create table queue_typical (
    type text primary key,
    run_s double precision not null check (run_s >= 0),
    measured_at timestamptz not null default now()
);
create index workloads_completed on workloads (type, completed_at desc) where status = 'completed';

update workloads w set gpu_type = g.specifications ->> 'gpu_type'
    from device_groups g join inventory_generations i using (facility_id, generation)
    where i.is_current and w.queued_at is not null and lower(w.gpu_type) = lower(g.model) and g.specifications ->> 'gpu_type' <> '';
insert into queue_shares (customer_id, gpu_type, waiting, used, is_backlogged, left_at)
    select w.customer_id, w.gpu_type, count(w.queued_at), q.used, q.is_backlogged, q.left_at
    from workloads w join queue_customers q using (customer_id)
    group by w.customer_id, w.gpu_type, q.used, q.is_backlogged, q.left_at;
alter table queue_usage add column gpu_type text;
update queue_usage u set gpu_type = (select gpu_type from workloads w where w.customer_id = u.customer_id order by number desc limit 1);
alter table queue_usage alter column gpu_type set not null;
drop index queue_customers_waiting;
alter table queue_customers drop column used, drop column is_backlogged, drop column left_at;

create or replace function check_workload() returns trigger language plpgsql as $$
declare
    run_s double precision;
    finals constant text[] := array['completed', 'failed', 'cancelled'];
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
    if new.status = old.status and old.status = any(finals) and new is distinct from old then
        raise exception 'workload % is %: nothing of it changes any more', old.id, old.status using errcode = 'check_violation';
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
        elsif new.status = any(finals) then
            new.completed_at := new.changed_at;
            new.queued_at := null;
            new.lease_owner := null;
            new.ages_at := null;
        end if;
    end if;
    if old.lease_owner is not null and new.lease_owner is null then
        new.charged_gpu_s := new.used_gpu_s;
        if new.gpu_types is not null and new.queued_at is not null then
            new.gpu_type := case new.type when 'bitcoin_mining' then 'ASIC' else 'GPU' end;
        end if;
    end if;
    new.updated_at := now();
    return new;
end $$;

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
    if old.status <> new.status and new.status in ('completed', 'failed', 'cancelled') and new.used_gpu_s > 0 then
        update queue_customers c set judged_at = greatest(c.judged_at, new.changed_at),
                said_gpu_s = c.said_gpu_s * a.kept + least(new.used_gpu_s, new.gpu_count * new.estimated_duration_s),
                ran_gpu_s = c.ran_gpu_s * a.kept + new.used_gpu_s
            from (select 0.5 ^ least(greatest(extract(epoch from new.changed_at - q.judged_at) / r.half_life_s, 0), 60)::double precision
                         as kept
                  from queue_rules r, queue_customers q where q.customer_id = new.customer_id) a
            where c.customer_id = new.customer_id;
    end if;
    if waited and (not waits or old.level <> new.level) then
        update queue_flows set waiting = waiting - 1 where customer_id = new.customer_id and level = old.level;
    end if;
    if waits and (not waited or old.level <> new.level) then
        insert into queue_flows as f (customer_id, level, waiting) values (new.customer_id, new.level, 1)
            on conflict (customer_id, level) do update set waiting = f.waiting + 1;
    end if;
    if waited and (not waits or old.gpu_type <> new.gpu_type) then
        update queue_shares set waiting = waiting - 1 where customer_id = new.customer_id and gpu_type = old.gpu_type;
    end if;
    if waits and (not waited or old.gpu_type <> new.gpu_type) then
        insert into queue_shares as s (customer_id, gpu_type, waiting) values (new.customer_id, new.gpu_type, 1)
            on conflict (customer_id, gpu_type) do update set waiting = s.waiting + 1;
    end if;
    if old.lease_owner is not null and new.lease_owner is null then
        update allocation_headers set status = 'released', reason = new.reason
            where workload_id = new.id and status in ('pending', 'active');
    end if;
    if old.lease_owner is not null and new.charged_gpu_s <> old.charged_gpu_s then
        insert into queue_usage (customer_id, gpu_type, level, gpu_s)
            values (new.customer_id, old.gpu_type, old.level, new.charged_gpu_s - old.charged_gpu_s);
    end if;
    if old.status is distinct from new.status or waits <> waited then
        insert into workload_events (workload_id, customer_id, old_status, new_status, is_waiting, lease_epoch, reason, actor, occurred_at)
            values (new.id, new.customer_id, old.status, new.status, waits, new.lease_epoch, new.reason, new.actor, new.changed_at);
        perform pg_notify('hcp_workload', '');
    end if;
    return null;
end $$;

-- Anew where the last time is further back than that, in real seconds.
create function measure_typical(kept_s double precision) returns void language plpgsql security definer
set search_path = public, pg_temp as $$
begin
    if exists (select from queue_typical where measured_at > now() - make_interval(secs => kept_s)) then
        return;
    end if;
    insert into queue_typical as t (type, run_s)
        select kinds.type, typical.run_s
        from (values ('ai_inference_realtime'), ('ai_inference_batch'), ('model_training'), ('bitcoin_mining')) as kinds (type),
        lateral (
            select percentile_cont(0.5) within group (order by own.run_s) as run_s
            from (select percentile_cont(0.5) within group (order by newest.actual_duration_s) as run_s
                  from (select w.customer_id, w.actual_duration_s from workloads w
                        where w.type = kinds.type and w.status = 'completed' order by w.completed_at desc limit 1000) newest
                  group by newest.customer_id) own) typical
        where typical.run_s is not null
        on conflict (type) do update set run_s = excluded.run_s, measured_at = now();
end $$;
revoke execute on function measure_typical from public;
grant execute on function measure_typical to hcp_scheduler;

-- A repeat under the key finds the first one for so long, real seconds; after that the key is free again. Submissions of a customer come
-- one after the other, so no index has to hold it.
alter table queue_rules add column key_kept_s double precision not null default 86400 check (key_kept_s > 0);
drop index workloads_once;
create index workloads_keyed on workloads (customer_id, idempotency_key, number) where idempotency_key is not null;

-- What is cancelled already stays as it was, with who did it and when.
drop function cancel_workload;
create function cancel_workload(
    workload uuid, customer uuid, cancelled_at timestamptz, by_whom text, why text, request text default '') returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update workloads set status = 'cancelled', changed_at = cancelled_at, actor = by_whom, reason = why
        where id = workload and (customer is null or customer_id = customer) and status <> 'cancelled';
    if found then
        insert into audit_log (actor, action, subject, detail)
            values (by_whom, 'workload.cancel', 'workload/' || workload, jsonb_build_object('reason', why, 'request_id', request));
        return true;
    end if;
    return exists (select from workloads where id = workload and (customer is null or customer_id = customer));
end $$;
revoke execute on function cancel_workload from public;
grant execute on function cancel_workload to hcp_api, hcp_scheduler;

grant insert (gpu_types) on workloads to hcp_api;
grant update (gpu_type) on workloads to hcp_scheduler;
grant select on queue_shares, queue_typical to hcp_api, hcp_scheduler, hcp_control;
grant insert (customer_id, gpu_type, used, is_backlogged, left_at), update (used, is_backlogged, left_at) on queue_shares
    to hcp_scheduler;
