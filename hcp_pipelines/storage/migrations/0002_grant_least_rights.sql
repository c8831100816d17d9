-- Each process gets the least rights that do its work. The roles exist already; nothing is granted to public.
revoke all on schema public from public;
grant usage on schema public to hcp_feed, hcp_control, hcp_allocator, hcp_api, hcp_collector;

grant select on all tables in schema public to hcp_control, hcp_allocator, hcp_api, hcp_collector;
revoke select on allocation_headers, allocations, customers, workloads from hcp_allocator, hcp_collector;

grant select on price_data, latest_prices, market_rules, facilities, grid_signals, process_cursors to hcp_feed;
grant insert on price_data, grid_signals, process_cursors to hcp_feed;
grant update on process_cursors to hcp_feed;

grant insert on policies, profitability_scores, audit_log, process_cursors to hcp_control;
grant update on process_cursors to hcp_control;

grant insert on switch_journal, policy_admissions, allocation_history, audit_log, facility_leases, process_cursors to hcp_allocator;
grant update on facility_leases, process_cursors to hcp_allocator;

grant insert, update on process_cursors to hcp_collector;

-- The journal is history: nobody rewrites it, its owner included.
create function refuse_rewrite() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % is refused', tg_table_name, tg_op using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on switch_journal
    for each statement execute function refuse_rewrite();
create trigger append_only before update or delete or truncate on audit_log
    for each statement execute function refuse_rewrite();
