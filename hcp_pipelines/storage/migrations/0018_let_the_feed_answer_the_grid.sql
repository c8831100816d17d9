-- The feed answers events of demand response servers: what can be met is taken on as `hcp grid award` would, and what the grid
-- says of it is passed on. It reads what an award is judged by, and changes nothing that its owner writes.
grant select on feeders, inventory_generations, device_groups, ramp_budgets, lockouts, operator_overrides, owner_memory,
    gateway_endpoints, grid_obligations to hcp_feed;
grant insert on grid_obligations, audit_log to hcp_feed;
grant update (status, reason, updated_at) on grid_obligations to hcp_feed;
grant update (obligations_version) on facilities to hcp_feed;

-- What was answered to each event, whatever has become of it since.
create index grid_signals_events on grid_signals (source, ends_at) where kind = 'event';
