-- What a device was used and what that cost are in its line as it is let go, an equal part of what the work ran and cost since devices
-- of it were let go last. What it runs on without devices (let go by hand: nobody says at which instant of its world) is of the lines
-- that come next, or of the last ones if none have come when the work is let go. So all lines of work add up to what it cost.
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

create function account_for_the_rest(let_go uuid[]) returns void language sql set search_path = public, pg_temp as $$
    update allocations a set cost = coalesce(a.cost, 0) + rest.cost,
        usage_metrics = jsonb_build_object('gpu_s', coalesce((a.usage_metrics ->> 'gpu_s')::double precision, 0) + rest.gpu_s)
    from (
        select last.header_id, greatest(coalesce(w.cost, 0) - lines.cost, 0) / lines.own as cost,
               greatest(w.used_gpu_s - lines.gpu_s, 0) / lines.own as gpu_s
        from workloads w cross join lateral (
            select header_id from allocations where workload_id = w.id order by allocated_at desc limit 1) last
        cross join lateral (
            select count(*) filter (where l.header_id = last.header_id) as own, coalesce(sum(l.cost), 0) as cost,
                   coalesce(sum((l.usage_metrics ->> 'gpu_s')::double precision), 0) as gpu_s
            from allocations l where l.workload_id = w.id) lines
        where w.id = any (let_go)) rest
    where a.header_id = rest.header_id and rest.gpu_s > 0
$$;
revoke execute on function account_for_the_rest from public;
alter function account_for_the_rest set enable_hashjoin = off;
alter function account_for_the_rest set enable_mergejoin = off;
alter function account_for_the_rest set enable_seqscan = off;

create or replace function follow_workloads() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    told uuid[];          -- of whom there is an event: a step, or a return to the queue
    were text[];          -- their states before it
    let_go uuid[];        -- who is held no more
    ran_on uuid[];        -- who of them had devices and had them no more
    moves boolean;        -- whether anything waits, or is held, otherwise than before
    one record;
begin
    select array_agg(id) filter (where is_told), array_agg(was) filter (where is_told),
           array_agg(id) filter (where was_held and not is_held), bool_or(is_moved)
        into told, were, let_go, moves
        from (select id, max(status) filter (where sign < 0) as was, bool_or(is_held) filter (where sign < 0) as was_held,
                     bool_or(is_held) filter (where sign > 0) as is_held,
                     min(status) <> max(status) or bool_or(waits) <> bool_and(waits) as is_told,
                     bool_or(waits) <> bool_and(waits) or bool_or(is_held) <> bool_and(is_held) or min(level) <> max(level)
                         or min(gpu_type) <> max(gpu_type) as is_moved
              from (select 1 as sign, id, status, queued_at is not null as waits, lease_owner is not null as is_held, level, gpu_type
                    from new_rows
                    union all
                    select -1, id, status, queued_at is not null, lease_owner is not null, level, gpu_type from old_rows) both_rows
              group by id) changes
        where is_told or is_moved;
    if moves then
        perform lock_customers(array(select distinct customer_id from new_rows));
        update queue_customers c set waiting = c.waiting + d.waiting, gpus = c.gpus + d.gpus
            from (select customer_id, sum(sign * waits::integer) as waiting, sum(sign * gpu_count * is_held::integer) as gpus
                  from (select 1 as sign, customer_id, queued_at is not null as waits, lease_owner is not null as is_held, gpu_count
                        from new_rows
                        union all
                        select -1, customer_id, queued_at is not null, lease_owner is not null, gpu_count from old_rows) both_rows
                  group by customer_id) d
            where c.customer_id = d.customer_id and (d.waiting <> 0 or d.gpus <> 0);
    end if;
    for one in select customer_id, changed_at, used_gpu_s, least(used_gpu_s, gpu_count * estimated_duration_s) as said_gpu_s
        from new_rows where id = any (told) and status in ('completed', 'failed', 'cancelled') and used_gpu_s > 0 order by changed_at
    loop
        update queue_customers c set judged_at = greatest(c.judged_at, one.changed_at),
                said_gpu_s = c.said_gpu_s * a.kept + one.said_gpu_s, ran_gpu_s = c.ran_gpu_s * a.kept + one.used_gpu_s
            from (select 0.5 ^ least(greatest(extract(epoch from one.changed_at - q.judged_at) / r.half_life_s, 0), 60)::double precision
                         as kept
                  from queue_rules r, queue_customers q where q.customer_id = one.customer_id) a
            where c.customer_id = one.customer_id;
    end loop;
    if moves then
        update queue_flows f set waiting = f.waiting + d.more
            from (select customer_id, level, sum(sign) as more
                  from (select 1 as sign, customer_id, level from new_rows where queued_at is not null
                        union all select -1, customer_id, level from old_rows where queued_at is not null) both_rows
                  group by customer_id, level) d
            where f.customer_id = d.customer_id and f.level = d.level and d.more < 0;
        insert into queue_flows as f (customer_id, level, waiting)
            select customer_id, level, sum(sign)
            from (select 1 as sign, customer_id, level from new_rows where queued_at is not null
                  union all select -1, customer_id, level from old_rows where queued_at is not null) both_rows
            group by customer_id, level having sum(sign) > 0 order by customer_id, level
            on conflict (customer_id, level) do update set waiting = f.waiting + excluded.waiting;
        update queue_shares s set waiting = s.waiting + d.more
            from (select customer_id, gpu_type, sum(sign) as more
                  from (select 1 as sign, customer_id, gpu_type from new_rows where queued_at is not null
                        union all select -1, customer_id, gpu_type from old_rows where queued_at is not null) both_rows
                  group by customer_id, gpu_type) d
            where s.customer_id = d.customer_id and s.gpu_type = d.gpu_type and d.more < 0;
        insert into queue_shares as s (customer_id, gpu_type, waiting)
            select customer_id, gpu_type, sum(sign)
            from (select 1 as sign, customer_id, gpu_type from new_rows where queued_at is not null
                  union all select -1, customer_id, gpu_type from old_rows where queued_at is not null) both_rows
            group by customer_id, gpu_type having sum(sign) > 0 order by customer_id, gpu_type
            on conflict (customer_id, gpu_type) do update set waiting = s.waiting + excluded.waiting;
    end if;
    if let_go is not null then
        with over as (
            update allocation_headers h set status = 'released', reason = (select n.reason from new_rows n where n.id = h.workload_id)
                where h.workload_id = any (let_go) and h.status in ('pending', 'active')
                returning h.workload_id)
        select array_agg(gone.id) into ran_on from unnest(let_go) as gone (id)
            where gone.id not in (select workload_id from over) and exists (select from allocations a where a.workload_id = gone.id);
        if ran_on is not null then
            perform account_for_the_rest(ran_on);
        end if;
    end if;
    insert into queue_usage (customer_id, gpu_type, level, gpu_s)
        select customer_id, gpu_type, level, more
        from (select customer_id, max(gpu_type) filter (where sign < 0) as gpu_type, max(level) filter (where sign < 0) as level,
                     bool_or(is_held) filter (where sign < 0) as was_held, sum(sign * charged_gpu_s) as more
              from (select 1 as sign, id, customer_id, gpu_type, level, lease_owner is not null as is_held, charged_gpu_s from new_rows
                    union all
                    select -1, id, customer_id, gpu_type, level, lease_owner is not null, charged_gpu_s from old_rows) both_rows
              group by id, customer_id) changes
        where was_held and more <> 0;
    if told is not null then
        insert into workload_events (
            workload_id, customer_id, old_status, new_status, is_waiting, lease_epoch, reason, actor, occurred_at, type, tier,
            priority, gpu_type, gpu_count, estimated_duration_s, deadline_at, facility_id, usd_per_gpu_hour, retries_left, used_gpu_s)
            select n.id, n.customer_id, t.was, n.status, n.queued_at is not null, n.lease_epoch, n.reason, n.actor, n.changed_at, n.type,
                   n.tier, n.priority, n.gpu_type, n.gpu_count, n.estimated_duration_s, n.deadline_at, n.facility_id,
                   n.usd_per_gpu_hour, n.retries_left, n.used_gpu_s
            from unnest(told, were) as t (id, was) join new_rows n using (id);
        perform pg_notify('hcp_workload', '');
    end if;
    return null;
end $$;
alter function follow_workloads() set enable_hashjoin = off;
alter function follow_workloads() set enable_mergejoin = off;
alter function follow_workloads() set enable_seqscan = off;

-- What work that goes on had cost before there was this is of the devices that it had until then, equal parts: which of them cost what was
-- not kept. Else those that it has next were told all of it.
update allocations a set cost = coalesce(before.cost, 0) / before.devices,
    usage_metrics = jsonb_build_object('gpu_s', before.used_gpu_s / before.devices)
from (
    select w.id, w.cost, w.used_gpu_s, count(*) as devices from workloads w join allocations l on l.workload_id = w.id
    where w.completed_at is null and l.released_at is not null group by w.id) before
where a.workload_id = before.id and a.released_at is not null;
