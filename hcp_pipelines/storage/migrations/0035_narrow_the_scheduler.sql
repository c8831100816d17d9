-- What the scheduler may do to work is what it does: whoever gets hold of its role rewrites nothing that was, and gives no work another
-- price, more retries or a better place in the queue. Cancellations come by their own function.
create function check_scheduler() returns trigger language plpgsql as $$
declare
    steps boolean := new.status <> old.status;
    ends boolean := steps and new.status in ('completed', 'failed', 'cancelled');
    claims boolean := old.lease_owner is null and new.lease_owner is not null;
    lets_go boolean := old.lease_owner is not null and new.lease_owner is null;
    wrong text := case
        when new.retries_left not in (old.retries_left, old.retries_left - 1) then 'retries_left'
        when new.level not in (old.level, old.level - 1) then 'level'
        when (new.facility_id, new.placement, new.usd_per_gpu_hour) is distinct from (old.facility_id, old.placement, old.usd_per_gpu_hour)
            and not (steps and new.status = 'scheduled') then 'place or rate'
        when new.result is distinct from old.result and not ends then 'result'
        when new.gpu_type <> old.gpu_type and not lets_go and not (claims and coalesce(new.gpu_type = any(old.gpu_types), false))
            then 'gpu_type'
        when new.queued_at is distinct from old.queued_at and not steps and not (lets_go and new.status = 'paused') then 'queued_at'
        when new.changed_at <> old.changed_at and not steps and new.queued_at is not distinct from old.queued_at then 'changed_at'
        when new.charged_gpu_s < old.charged_gpu_s and not lets_go then 'charged_gpu_s'
        when new.lease_owner is distinct from old.lease_owner and not steps and not claims and not lets_go then 'lease_owner'
        when new.lease_epoch <> old.lease_epoch and not claims then 'lease_epoch'
        end;
begin
    if wrong is not null then
        raise exception 'workload %: % is not for the scheduler to change like this', old.id, wrong
            using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger check_scheduler before update on workloads for each row
    when (current_user = 'hcp_scheduler') execute function check_scheduler();

-- It books devices that are available; they are let go with their allocation, by the database itself.
create function refuse_booking() returns trigger language plpgsql as $$
begin
    raise exception 'device % is %: the scheduler may book what is available, and nothing else', old.id, old.status
        using errcode = 'insufficient_privilege';
end $$;
create trigger check_booking before update of status on resources for each row
    when (current_user = 'hcp_scheduler' and (old.status <> 'available' or new.status <> 'allocated')) execute function refuse_booking();

revoke insert on allocation_headers, allocations, workload_checkpoints from hcp_scheduler;
grant insert (workload_id, lease_epoch) on allocation_headers to hcp_scheduler;
grant insert (header_id, workload_id, resource_id) on allocations to hcp_scheduler;
grant insert (workload_id, lease_epoch, location, progress_s, detail, taken_at) on workload_checkpoints to hcp_scheduler;
revoke select, insert, update on process_cursors from hcp_scheduler;
revoke select on customers from hcp_scheduler;
grant select (id, tier) on customers to hcp_scheduler;
