-- The steps of work, its checkpoints and the devices that it had go as what was wanted of its devices does: once it has been over for
-- a month, and once the lake has them. The work itself stays.
drop trigger append_only on workload_events;
create trigger append_only before update or truncate on workload_events for each statement execute function refuse_rewrite();
create trigger keep_young before delete on workload_events for each row execute function refuse_young();
drop trigger append_only on allocation_events;
create trigger append_only before update or truncate on allocation_events for each statement execute function refuse_rewrite();
create trigger keep_young before delete on allocation_events for each row execute function refuse_young();
drop trigger append_only on workload_checkpoints;
create trigger append_only before update or truncate on workload_checkpoints for each statement execute function refuse_rewrite();
create trigger keep_young before delete on workload_checkpoints for each row execute function refuse_young();
create trigger keep_young before delete on allocations for each row execute function refuse_young();
create trigger keep_young before delete on allocation_headers for each row execute function refuse_young();
grant delete on workload_events, workload_checkpoints, allocation_events, allocations, allocation_headers to hcp_control;
-- A header's events and lines are looked for as it goes.
create index allocation_events_of_header on allocation_events (allocation_id);
