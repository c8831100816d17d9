-- Whoever gets hold of the API gets no orders with it: commands and the alerts have a role of their own, `hcp_operator`.
grant usage on schema public to hcp_operator;
grant select on all tables in schema public to hcp_operator;
revoke select on users, api_keys, idempotent_replies, models from hcp_operator;
grant select (id, name, version, status, digest, trained_until, metadata, actor, reason, created_at, recorded_at)
    on models to hcp_operator;
grant insert on audit_log, grid_signals to hcp_operator;
grant insert, update on alerts, alert_deliveries, operators, lockouts, grid_obligations, customer_quotas to hcp_operator;
grant insert on operator_overrides to hcp_operator;
grant update (status, approved_by, decided_at, decision_reason, released_at, released_by) on operator_overrides to hcp_operator;
grant insert (facility_id, what, subject, mw, detail, requested_by, expires_at) on approvals to hcp_operator;
grant update (decision, decided_by, decided_at, reason) on approvals to hcp_operator;
grant update (lockouts_version, obligations_version) on facilities to hcp_operator;
grant update (name, email, tier, updated_at) on customers to hcp_operator;
grant update on queue_rules, queue_levels, tier_quotas to hcp_operator;

-- The API reads what it tells, makes accounts, takes work in and cancels it; it orders nothing.
revoke insert, update on operators, lockouts, grid_obligations, customer_quotas, alerts, alert_deliveries from hcp_api;
revoke insert on operator_overrides, grid_signals from hcp_api;
revoke update (status, approved_by, decided_at, decision_reason, released_at, released_by) on operator_overrides from hcp_api;
revoke insert (facility_id, what, subject, mw, detail, requested_by, expires_at) on approvals from hcp_api;
revoke update (decision, decided_by, decided_at, reason) on approvals from hcp_api;
revoke update (lockouts_version, obligations_version) on facilities from hcp_api;
revoke update (name, email, tier, updated_at) on customers from hcp_api;
revoke update on queue_rules, queue_levels, tier_quotas from hcp_api;
revoke select on operators, alerts, alert_deliveries, grid_signals, paper_plans, process_cursors from hcp_api;
revoke select (id, name, version, status, digest, trained_until, metadata, actor, reason, created_at, recorded_at)
    on models from hcp_api;
grant select (name, role, token_sha256, disabled_at) on operators to hcp_api;
