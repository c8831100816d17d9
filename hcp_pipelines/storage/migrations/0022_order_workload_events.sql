-- A customer's share goes by its own weight as it is, not by the tier of each piece of work.
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
alter table queue_usage drop column tier;

-- Events of transactions older than this are complete: of those that were under way, and may have written some, none is older. Who
-- holds locks in another database is not one of them (commits of the lake take seconds).
create function workload_events_horizon() returns xid8 language sql stable as $$
    select coalesce(
        (select x from pg_snapshot_xip(s.snapshot) x
         where x::xid not in (
             select t.transactionid from pg_locks t
             where t.locktype = 'transactionid' and t.mode = 'ExclusiveLock' and exists (
                 select from pg_locks d where d.pid = t.pid
                     and d.database not in (0, (select oid from pg_database where datname = current_database()))))
         order by x limit 1),
        pg_snapshot_xmax(s.snapshot))
    from pg_current_snapshot() as s (snapshot)
$$;
revoke execute on function workload_events_horizon from public;
grant execute on function workload_events_horizon to hcp_api, hcp_scheduler, hcp_control, hcp_collector;
