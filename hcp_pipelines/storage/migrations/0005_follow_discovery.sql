-- Whoever applies what gateways discover may say where devices are and what they are, never what they are booked for.
grant usage on schema public to hcp_fleet;
grant select on facilities, feeders, inventory_generations, device_groups, resources, ramp_budgets, gateway_endpoints, audit_log
    to hcp_fleet;
grant insert on inventory_generations, device_groups, audit_log to hcp_fleet;
grant update (is_current) on inventory_generations to hcp_fleet;
grant update (subtype, specifications, metadata, generation, updated_at) on resources to hcp_fleet;

-- The last word of discovery about a facility, however many events of single devices lie behind it.
create index audit_log_discovery on audit_log (subject, id desc)
    where action in ('inventory.reconcile', 'inventory.differs', 'alert.discovery_held');
