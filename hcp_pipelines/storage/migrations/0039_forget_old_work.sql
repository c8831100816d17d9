-- What was wanted of the devices of work, what became of that and why it went where it went goes once the work has been over for a
-- month: a row of younger work is refused to everybody. Who lets go of rows sees to it that the lake has them.
create function ended_long_ago(workload uuid) returns boolean language sql stable as $$
    select exists (
        select from workloads where id = workload and status in ('completed', 'failed', 'cancelled')
            and updated_at < now() - interval '30 days')
$$;
create function refuse_young() returns trigger language plpgsql as $$
declare
    workload uuid;
begin
    if tg_table_name = 'desired_outcomes' then
        select workload_id into workload from desired_state where id = old.desired_state_id;
    else
        workload := old.workload_id;
    end if;
    if not ended_long_ago(workload) then
        raise exception '% keeps the rows of work that is not over for long: % is refused', tg_table_name, tg_op
            using errcode = 'insufficient_privilege';
    end if;
    return old;
end $$;
drop trigger keep on desired_state;
create trigger keep before truncate on desired_state for each statement execute function refuse_rewrite();
create trigger keep_young before delete on desired_state for each row execute function refuse_young();
drop trigger append_only on desired_outcomes;
create trigger append_only before update or truncate on desired_outcomes for each statement execute function refuse_rewrite();
create trigger keep_young before delete on desired_outcomes for each row execute function refuse_young();
drop trigger append_only on routing_decisions;
create trigger append_only before update or truncate on routing_decisions for each statement execute function refuse_rewrite();
create trigger keep_young before delete on routing_decisions for each row execute function refuse_young();
grant delete on desired_state, desired_outcomes, routing_decisions to hcp_control;
