-- The coordination schema as it is now, to be read: database `hcp` after all migrations. Nothing executes this file but
-- tests/integration/test_storage_schema.py, which proves it equal to them; declared.py reads its columns. All instants are UTC; `simulated_*` and
-- "timestamp" are world time, `recorded_at` and `created_at` real time. bootstrap.py makes the roles that the rights name.

create table facilities (
    id text primary key check (id ~ '^[a-z0-9][a-z0-9-]{0,40}$'),
    name text not null,
    location jsonb not null,
    capacity_mw double precision not null check (capacity_mw > 0),
    pue double precision not null check (pue >= 1),
    status text not null default 'active' check (status in ('planned', 'active', 'maintenance', 'retired')),
    settlement_point text not null,
    control_mode text not null default 'observe' check (control_mode in ('observe', 'approve', 'auto')),
    dispatch_regime text not null default 'self' check (dispatch_regime in ('self', 'clr_base_point', 'block_dr')),
    document_version integer not null check (document_version > 0),
    document_digest text not null,
    document jsonb not null,
    obligations_version bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table facility_versions (
    facility_id text not null references facilities (id),
    document_version integer not null,
    document_digest text not null,
    document jsonb not null,
    applied_by text not null,
    applied_at timestamptz not null default now(),
    primary key (facility_id, document_version)
);

create table feeders (
    facility_id text not null references facilities (id),
    feeder_id text not null,
    limit_mw double precision not null check (limit_mw > 0),
    created_at timestamptz not null default now(),
    primary key (facility_id, feeder_id)
);

-- Limits of load change; what used them up is in switch_journal (mw_delta), so a successor counts its predecessor's window.
create table ramp_budgets (
    scope text not null check (scope in ('feeder', 'facility', 'portfolio')),
    scope_id text not null,
    facility_id text references facilities (id),
    up_mw double precision not null check (up_mw > 0),
    down_mw double precision not null check (down_mw > 0),
    window_s double precision not null check (window_s > 0),
    primary key (scope, scope_id)
);

create table inventory_generations (
    facility_id text not null references facilities (id),
    generation bigint not null check (generation > 0),
    devices integer not null check (devices >= 0),
    digest text not null,
    reason text not null,
    is_current boolean not null default true,
    created_at timestamptz not null default now(),
    primary key (facility_id, generation)
);
create unique index one_current_generation on inventory_generations (facility_id) where is_current;

create table device_groups (
    facility_id text not null,
    generation bigint not null,
    group_id text not null,
    feeder_id text not null,
    type text not null check (type in ('GPU', 'ASIC', 'CPU')),
    model text not null,
    firmware text not null,
    cooling_class text not null,
    first_slot integer not null check (first_slot >= 0),
    devices integer not null check (devices > 0),
    -- [{"state": 3, "power_kw": 3.5, "settle_s": 240}], rising in power; IT power, without PUE
    ladder jsonb not null,
    specifications jsonb not null,
    primary key (facility_id, generation, group_id),
    foreign key (facility_id, generation) references inventory_generations (facility_id, generation),
    foreign key (facility_id, feeder_id) references feeders (facility_id, feeder_id)
);

create table resources (
    id text primary key,  -- facility/generation-independent slot: 'hou-1/000123'
    facility_id text not null references facilities (id),
    group_id text not null,
    slot integer not null check (slot >= 0),
    generation bigint not null,
    type text not null check (type in ('GPU', 'ASIC', 'CPU')),
    subtype text not null,
    specifications jsonb not null default '{}',
    status text not null default 'available' check (status in ('available', 'allocated', 'maintenance', 'failed')),
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (facility_id, slot),
    foreign key (facility_id, generation) references inventory_generations (facility_id, generation)
);
create index idx_resources_facility on resources (facility_id);
create index idx_resources_type_status on resources (type, status);

create table customers (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    email text not null unique,
    tier text not null default 'free' check (tier in ('free', 'pro', 'enterprise')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table workloads (
    id uuid primary key default gen_random_uuid(),
    customer_id uuid not null references customers (id),
    type text not null check (type in ('ai_inference_realtime', 'ai_inference_batch', 'bitcoin_mining', 'model_training')),
    priority integer not null check (priority between 1 and 10),
    status text not null default 'queued'
        check (status in ('queued', 'scheduled', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    requirements jsonb not null,
    sla_parameters jsonb not null default '{}',
    created_at timestamptz not null default now(),
    scheduled_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    updated_at timestamptz not null default now(),
    cost numeric(18, 6)
);
create index idx_workloads_customer on workloads (customer_id);
create index idx_workloads_status on workloads (status);
create index idx_workloads_type_status on workloads (type, status);

create table allocation_headers (
    id uuid primary key default gen_random_uuid(),
    workload_id uuid not null references workloads (id),
    status text not null default 'pending' check (status in ('pending', 'active', 'released', 'failed')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table allocations (
    id uuid primary key default gen_random_uuid(),
    header_id uuid not null references allocation_headers (id),
    workload_id uuid not null references workloads (id),
    resource_id text not null references resources (id),
    allocated_at timestamptz not null default now(),
    released_at timestamptz,
    usage_metrics jsonb not null default '{}',
    cost numeric(18, 6),
    check (released_at is null or released_at >= allocated_at)
);
create index idx_allocations_workload on allocations (workload_id);
create index idx_allocations_resource on allocations (resource_id);
create unique index idx_active_allocations on allocations (resource_id) where released_at is null;

-- Ticks. The id is the platform's tick id; the feed is the only writer. value is float8, not DECIMAL(15,6): absurd
-- values are recorded as they came, and difficulty has 15 digits before the point.
create table price_data (
    id bigint generated always as identity primary key,
    stream text not null,
    series text not null,                     -- settlement point, exchange, GPU type, …
    "timestamp" timestamptz not null,         -- world time from which the value holds
    price_type text not null check (price_type in ('electricity', 'btc', 'network', 'gpu_spot', 'grid_signal', 'weather')),
    value double precision not null,
    unit text not null,
    source text not null,
    region text not null default '',
    quality text not null check (quality in ('good', 'unusual', 'absurd', 'out_of_order')),
    quality_reason text not null default '',
    revision integer not null default 0,
    metadata jsonb not null default '{}',
    received_at timestamptz not null,         -- world time of receipt
    created_at timestamptz not null default clock_timestamp(),
    unique (stream, series, "timestamp", revision)
);
create index idx_price_data_type_time on price_data (price_type, "timestamp" desc);
create index idx_price_data_source on price_data (source);
create index idx_price_data_newest on price_data (stream, series, "timestamp" desc, revision desc)
    where quality in ('good', 'unusual');

-- Newest actionable value of each series.
create view latest_prices as
select distinct on (stream, series) *
from price_data
where quality in ('good', 'unusual')
order by stream, series, "timestamp" desc, revision desc;

create table market_rules (
    market text not null,
    rule text not null,
    effective_from timestamptz not null,
    effective_to timestamptz,
    value jsonb not null,
    source text not null,
    primary key (market, rule, effective_from)
);
insert into market_rules (market, rule, effective_from, effective_to, value, source) values
    ('ERCOT', 'rt_offer_cap_usd_per_mwh', '2000-01-01T00:00Z', '2022-01-01T06:00Z', '9000', 'system-wide offer cap before 2022'),
    ('ERCOT', 'rt_offer_cap_usd_per_mwh', '2022-01-01T06:00Z', '2025-12-05T06:00Z', '5000', '16 TAC 25.509'),
    ('ERCOT', 'rt_offer_cap_usd_per_mwh', '2025-12-05T06:00Z', null, '2000', 'RTC+B'),
    ('ERCOT', 'da_offer_cap_usd_per_mwh', '2022-01-01T06:00Z', null, '5000', '16 TAC 25.509'),
    ('ERCOT', 'rt_plausible_floor_usd_per_mwh', '2000-01-01T00:00Z', null, '-1000', 'ours: plausibility band'),
    ('ERCOT', 'reserve_duration_h', '2022-09-01T05:00Z', null,
     '{"REGUP": 0.5, "REGDN": 0.5, "RRS": 0.5, "ECRS": 1, "NSPIN": 4}', 'NPRR1096, NPRR1282, NPRR1339'),
    ('ERCOT', 'coincident_peak', '2000-01-01T00:00Z', null, '{"scheme": "4cp", "months": [6, 7, 8, 9]}', 'PUCT; under replacement');

create table profitability_scores (
    id bigint generated always as identity primary key,
    "timestamp" timestamptz not null,
    tick_id bigint not null references price_data (id),
    resource_id text not null,                -- a group, 'facility/group', or a resource
    workload_type text not null,
    score numeric(5, 2) not null check (score between 0 and 100),
    expected_revenue double precision not null,  -- USD/h
    estimated_cost double precision not null,    -- USD/h
    net_profit double precision not null,        -- USD/h
    usd_per_mwh double precision not null,       -- net profit per MWh of site power, the ranking
    confidence numeric(3, 2) not null check (confidence between 0 and 1),
    recommendation text not null check (recommendation in ('allocate', 'hold', 'switch')),
    created_at timestamptz not null default now(),
    unique (tick_id, resource_id, workload_type)
);
create index idx_profitability_resource_time on profitability_scores (resource_id, "timestamp" desc);

create table policies (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    status text not null check (status in ('live', 'candidate')),
    basis_tick_id bigint not null references price_data (id),
    solved_at timestamptz not null,
    refresh_due_at timestamptz not null,
    expires_at timestamptz not null,
    inventory_generation bigint not null,
    obligations_version bigint not null,
    schema_version integer not null,
    digest text not null,
    body jsonb not null,
    run_id text,
    trigger text not null default 'tick',
    published_at timestamptz not null default clock_timestamp()
);
create unique index one_live_policy_per_tick on policies (facility_id, basis_tick_id) where status = 'live';
create index policies_newest on policies (facility_id, id desc) where status = 'live';

create table policy_admissions (
    id bigint generated always as identity primary key,
    policy_id bigint not null references policies (id),
    facility_id text not null,
    allocator text not null,
    is_admitted boolean not null,
    reason text not null default '',
    recorded_at timestamptz not null default clock_timestamp()
);

create table facility_leases (
    facility_id text primary key references facilities (id),
    owner text,
    epoch bigint not null default 0,
    acquired_at timestamptz,
    expires_at timestamptz not null default '-infinity'
);

create table gateway_endpoints (
    facility_id text primary key references facilities (id),
    address text not null,                    -- gRPC target: unix:/… or dns:host:port
    gateway text not null,                    -- process name
    updated_at timestamptz not null default now()
);

-- History and intent, append-only: one row per event of one assignment of one command. Written before the command leaves.
create table switch_journal (
    id bigint generated always as identity primary key,
    event text not null check (event in ('commanded', 'acked', 'settled', 'observed', 'expired')),
    facility_id text not null references facilities (id),
    owner text not null,
    epoch bigint not null,
    command_id uuid not null,
    assignment integer not null,
    generation bigint not null,
    group_id text not null,
    feeder_id text not null default '',
    wave integer not null default 0,
    from_state smallint,
    to_state smallint not null,
    devices integer not null check (devices >= 0),         -- of this row's event: commanded, accepted, settled, observed
    refused integer not null default 0,                    -- acked rows
    deferred integer not null default 0,                   -- acked rows
    failed integer not null default 0,                     -- settled rows
    superseded integer not null default 0,                 -- settled rows
    slots bytea,                                           -- roaring; commanded and observed rows
    mw_delta double precision not null default 0,          -- signed, commanded rows; what uses the ramp budgets
    tick_id bigint,
    policy_id bigint,
    decision_price_usd_per_mwh double precision,
    usd_per_hour double precision,                         -- against staying in the previous state, at the decision price
    reason text not null,
    reason_detail text not null default '',
    actor text not null default 'policy',
    steps_ms jsonb,                                        -- latency breakdown: real ms since the tick row's commit
    simulated_at timestamptz not null,
    recorded_at timestamptz not null default clock_timestamp(),
    unique (command_id, assignment, event)
);
alter table switch_journal alter column slots set storage external;  -- bitmaps hardly compress
create index switch_journal_facility on switch_journal (facility_id, id desc);
create index switch_journal_ramp on switch_journal (facility_id, simulated_at) where event = 'commanded';

create table allocation_history (
    id bigint generated always as identity primary key,
    "timestamp" timestamptz not null,
    facility_id text not null references facilities (id),
    resource_id text not null,                -- 'facility/group'
    resource_type text not null,
    recommended_workload text not null,
    actual_workload text not null,
    devices integer not null,
    expected_profit double precision not null,  -- USD/h at the decision price
    actual_profit numeric(18, 6),               -- USD/h, filled by settlement
    tick_id bigint,
    policy_id bigint,
    created_at timestamptz not null default now()
);
create index idx_allocation_history_facility on allocation_history (facility_id, "timestamp" desc);

create table desired_state (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    group_id text not null,
    state smallint not null,
    devices integer,                          -- so many, or
    slots bytea,                              -- exactly these
    generation bigint not null,
    priority smallint not null default 50,
    reason text not null,
    actor text not null,
    valid_from timestamptz not null,
    valid_until timestamptz,
    superseded_by bigint references desired_state (id),
    created_at timestamptz not null default now()
);
create index desired_state_open on desired_state (facility_id, group_id) where superseded_by is null;

create table operator_overrides (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    kind text not null check (kind in ('override', 'curtail', 'stop_all')),
    scope jsonb not null,
    value jsonb not null,
    mw_change double precision,
    actor text not null,
    approved_by text check (approved_by is null or approved_by <> actor),
    reason text not null,
    valid_from timestamptz not null,
    valid_until timestamptz,
    released_at timestamptz,
    released_by text,
    created_at timestamptz not null default now()
);

create table lockouts (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    scope text not null check (scope in ('device', 'feeder', 'site')),
    feeder_id text,
    slots bytea,
    holder text not null,
    reason text not null,
    placed_at timestamptz not null default now(),
    removed_at timestamptz,
    removed_by text,
    check ((scope = 'device') = (slots is not null)),
    check ((scope = 'feeder') = (feeder_id is not null))
);
create index lockouts_standing on lockouts (facility_id) where removed_at is null;

create table grid_signals (
    id bigint generated always as identity primary key,
    kind text not null,
    level text not null default '',
    market text not null default 'ERCOT',
    facility_id text references facilities (id),
    payload jsonb not null default '{}',
    source text not null,
    source_event_id text not null,
    effective_at timestamptz not null,
    ends_at timestamptz,
    received_at timestamptz not null,
    created_at timestamptz not null default clock_timestamp(),
    unique (source, source_event_id)
);

create table grid_obligations (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    programme text not null,
    status text not null check (status in
        ('offered', 'awarded', 'armed', 'deployed', 'recovering', 'settled', 'failed', 'withdrawn')),
    mw double precision not null check (mw > 0),
    tranche text not null default 'all',      -- which interruptible MW are sold
    during tstzrange not null check (not isempty(during)),
    baseline_rule text not null,
    notice_s double precision not null check (notice_s >= 0),
    duration_s double precision not null check (duration_s > 0),
    recovery_s double precision not null check (recovery_s >= 0),
    penalty_usd_per_mwh double precision not null default 15000,
    signal_id bigint references grid_signals (id),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- the same MW-interval is sold once; the text key becomes a one-point range, since btree_gist is not to be had embedded
    exclude using gist (
        int8range(hashtextextended(facility_id || '/' || tranche, 0),
                  hashtextextended(facility_id || '/' || tranche, 0), '[]') with &&,
        during with &&)
        where (status in ('awarded', 'armed', 'deployed', 'recovering'))
);

create table audit_log (
    id bigint generated always as identity primary key,
    actor text not null,
    action text not null,
    subject text not null,
    detail jsonb not null default '{}',
    recorded_at timestamptz not null default clock_timestamp()
);

-- Where each daemon has got to (collector copies, launcher), so that a restart goes on from there.
create table process_cursors (
    process text not null,
    cursor text not null,
    value bigint not null,
    updated_at timestamptz not null default now(),
    primary key (process, cursor)
);

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

-- What is wrong, once each: an alert is open from when a condition is seen until it has been away for a while.
create table alerts (
    id bigint generated always as identity primary key,
    key text not null,                        -- which condition of which subject: the same key is the same alert
    severity text not null check (severity in ('info', 'warning', 'critical')),
    subject text not null,
    summary text not null,
    remedy text not null default '',
    opened_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    resolved_at timestamptz,
    acked_at timestamptz,
    acked_by text,
    ack_reason text not null default '',
    labels jsonb not null default '{}',       -- what it is about: what silences name
    silenced_by text not null default ''      -- what keeps it from being told, or did when it ended
);
create unique index one_open_alert on alerts (key) where resolved_at is null;
create index alerts_newest on alerts (opened_at desc);

-- What has to leave the machine, by sink; a row is done when it was delivered.
create table alert_deliveries (
    id bigint generated always as identity primary key,
    alert_id bigint not null references alerts (id),
    sink text not null,
    event text not null check (event in ('opened', 'repeated', 'resolved')),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default clock_timestamp(),
    delivered_at timestamptz,
    last_error text not null default '',
    created_at timestamptz not null default clock_timestamp()
);
create index alert_deliveries_due on alert_deliveries (next_attempt_at) where delivered_at is null;
create index alert_deliveries_alert on alert_deliveries (alert_id, sink, id desc);

grant select, insert, update on alerts, alert_deliveries to hcp_api;
grant select on alerts, alert_deliveries to hcp_control, hcp_collector;
grant insert on audit_log to hcp_api;

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

-- Operators and their directives: who may order what, what stands, and what waits for a second person.
create table operators (
    name text primary key check (name ~ '^[a-z][a-z0-9._-]{0,40}$'),
    role text not null check (role in ('viewer', 'operator', 'admin')),
    token_sha256 text not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

-- An override waits where its change is above the approval limit; the one who approves is another person.
alter table operator_overrides add column status text not null default 'standing'
    check (status in ('pending', 'standing', 'rejected'));
alter table operator_overrides add column decided_at timestamptz;
alter table operator_overrides add column decision_reason text not null default '';
alter table operator_overrides add check (released_at is null or released_by is not null);
create index operator_overrides_open on operator_overrides (facility_id) where released_at is null;

-- A gateway holds the whole set of locked slots under this number.
alter table facilities add column lockouts_version bigint not null default 0;

create function announce_directive() returns trigger language plpgsql as $$
begin
    perform pg_notify('hcp_directive', coalesce(new.facility_id, old.facility_id));
    return null;
end $$;
create function count_lockout() returns trigger language plpgsql as $$
begin
    update facilities set lockouts_version = lockouts_version + 1 where id = new.facility_id;
    return null;
end $$;
create trigger announce after insert or update on operator_overrides
    for each row execute function announce_directive();
create trigger count after insert or update on lockouts
    for each row execute function count_lockout();
create trigger announce after insert or update on lockouts
    for each row execute function announce_directive();
create trigger announce after insert or update on grid_obligations
    for each row execute function announce_directive();

-- What stood is history: a directive is released or removed, never deleted.
create trigger keep before delete or truncate on operator_overrides
    for each statement execute function refuse_rewrite();
create trigger keep before delete or truncate on lockouts
    for each statement execute function refuse_rewrite();

grant select, insert, update on operators to hcp_api;
grant insert, update on operator_overrides, lockouts to hcp_api;
grant update (lockouts_version) on facilities to hcp_api;
grant select on operators to hcp_control;

-- What waits for a second person: an operator's override, a wave of a facility in `approve`, a policy that jumps too far.
create table approvals (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    what text not null check (what in ('override', 'wave', 'policy')),
    subject text not null,                    -- the override's or policy's id, or what a wave would do
    mw double precision not null check (mw >= 0),
    detail text not null default '',
    requested_by text not null,
    requested_at timestamptz not null default now(),
    expires_at timestamptz not null,          -- simulated: nobody decides later
    decision text check (decision in ('approved', 'rejected')),
    decided_by text,
    decided_at timestamptz,
    reason text not null default '',
    check (decided_by <> requested_by),
    check ((decision is null) = (decided_by is null) and (decision is null) = (decided_at is null))
);
create unique index one_open_approval on approvals (facility_id, what, subject) where decision is null;
create index approvals_newest on approvals (facility_id, id desc);
create trigger announce after insert or update on approvals
    for each row execute function announce_directive();
create trigger keep before delete or truncate on approvals
    for each statement execute function refuse_rewrite();

grant select, insert on approvals to hcp_api, hcp_allocator;
grant update (decision, decided_by, decided_at, reason) on approvals to hcp_api;
grant select on approvals to hcp_control, hcp_collector;

-- What an owner knows beside the journal, so that its successor goes on where it was: the guard's accounts, the mix that is
-- to be restored after a directive. Written every few seconds; losing the last few costs nothing but those seconds.
create table owner_memory (
    facility_id text primary key references facilities (id),
    epoch bigint not null,
    simulated_at timestamptz not null,
    memory jsonb not null,
    updated_at timestamptz not null default now()
);
grant select, insert, update on owner_memory to hcp_allocator;

-- What became of an obligation: when it was called, from which load, and what the meter showed.
alter table grid_obligations
    add column deployed_at timestamptz,
    add column recalled_at timestamptz,
    add column baseline_mw double precision,
    add column delivered_fraction double precision,
    add column metered_at timestamptz,
    add column longest_gap_s double precision not null default 0,
    add column reason text not null default '';
grant update on grid_obligations to hcp_allocator;
grant insert, update on grid_obligations to hcp_api;
grant insert on grid_signals to hcp_api;

-- A policy that was solved with another set of armed obligations is refused.
create function count_obligation() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' or old.status is distinct from new.status or old.mw <> new.mw then
        update facilities set obligations_version = obligations_version + 1 where id = new.facility_id;
    end if;
    return null;
end $$;
create trigger count after insert or update on grid_obligations
    for each row execute function count_obligation();
grant update (obligations_version) on facilities to hcp_allocator, hcp_api;

create trigger announce after insert on grid_signals
    for each row execute function announce_directive();
create trigger keep before delete or truncate on grid_obligations
    for each statement execute function refuse_rewrite();

-- A preview starts from what the owner knows.
grant select on owner_memory to hcp_api;

-- Tokens are checked by hcp_api alone; who only shows what stands needs neither digests nor accounts.
revoke select on operators from hcp_control;

-- The last word of each gateway on direct orders: what holds there stands as much as what is ordered here.
create index audit_log_direct on audit_log (subject, id desc) where action in ('gateway.direct', 'gateway.released');

-- Numbers of an obligation are finite: NaN is above every number here, and passed as more than 0.
alter table grid_obligations
    add constraint finite_numbers check (
        mw < 'infinity' and notice_s < 'infinity' and duration_s < 'infinity' and recovery_s < 'infinity'
        and penalty_usd_per_mwh >= 0 and penalty_usd_per_mwh < 'infinity');

-- What a policy would have earned where the control mode keeps it from acting: from the last tick to this one, on paper and as it was.
create table paper_plans (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    control_mode text not null,
    tick_id bigint not null,
    policy_id bigint not null,
    decision_price_usd_per_mwh double precision not null,
    hours double precision not null check (hours >= 0),
    usd_actual double precision not null,
    usd_paper double precision not null,       -- wakes paid
    wake_usd double precision not null,
    devices integer not null,                  -- that change on paper at this tick
    mw_actual double precision not null,
    mw_paper double precision not null,
    simulated_at timestamptz not null,
    recorded_at timestamptz not null default clock_timestamp(),
    unique (facility_id, tick_id, simulated_at)
);
create index paper_plans_facility on paper_plans (facility_id, simulated_at desc);
grant select on paper_plans to hcp_control, hcp_allocator, hcp_api, hcp_collector;
grant insert on paper_plans to hcp_allocator;
create trigger append_only before update or delete or truncate on paper_plans
    for each statement execute function refuse_rewrite();

-- What an operator may change without a second person, MW. It is the platform's: `hcp up` writes HCP_APPROVAL_MW of its own here.
create table approval_limit (
    is_only boolean primary key default true check (is_only),
    mw double precision not null check (mw > 0),
    updated_at timestamptz not null default now()
);
insert into approval_limit (mw) values (1e9);
grant select on approval_limit to hcp_api;

-- MW that an override can change at most: every device from the farthest state; the whole facility where it says no group or state
-- that there is. The states are those of domain/modes.py, in their order.
create function override_most_mw(facility text, told_scope jsonb, told_value jsonb) returns double precision language sql stable as $$
    select coalesce(
        (select max(abs((own.step ->> 'power_kw')::float8 - (other.step ->> 'power_kw')::float8)) * f.pue / 1000
                * case when (told_value ->> 'devices')::numeric between 1 and g.devices then (told_value ->> 'devices')::numeric
                       else g.devices end
         from inventory_generations i
         join device_groups g using (facility_id, generation)
         cross join jsonb_array_elements(g.ladder) as own (step)
         cross join jsonb_array_elements(g.ladder) as other (step)
         where i.facility_id = f.id and i.is_current and g.group_id = told_scope ->> 'group_id'
           and (own.step ->> 'state')::int = array_position(array[
                   'curtailed', 'idle', 'mining_eco', 'mining_full', 'inference_realtime', 'inference_batch', 'training'],
                   told_value ->> 'state') - 1
         group by g.devices),
        f.capacity_mw)
    from facilities f where f.id = facility
$$;

-- An override stands by itself only while all that its actor has ordered in a quarter of an hour, and nobody has approved, is within
-- the limit together: several small ones are one large one.
create function weigh_override() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('override of ' || new.actor, 0));
    new.created_at := now();
    new.approved_by := null;
    new.mw_change := override_most_mw(new.facility_id, new.scope, new.value);
    if new.mw_change + (
            select coalesce(sum(mw_change), 0) from operator_overrides
            where kind = 'override' and actor = new.actor and status = 'standing' and approved_by is null
              and released_at is null and created_at > now() - interval '15 minutes')
        > (select mw from approval_limit)
    then
        new.status := 'pending';
    end if;
    return new;
end $$;
create trigger weigh before insert on operator_overrides
    for each row when (new.kind = 'override') execute function weigh_override();

create function refuse_unapproved() returns trigger language plpgsql as $$
begin
    if new.status = 'standing' and old.status <> 'standing' and not exists (
        select from approvals
        where what = 'override' and subject = new.id::text and facility_id = new.facility_id and requested_by = new.actor
          and decision = 'approved' and decided_by = new.approved_by)
    then
        raise exception 'override % was not approved', new.id using errcode = 'insufficient_privilege';
    end if;
    if old.released_at is not null and new.released_at is null then
        raise exception '%/% was released', old.kind, old.id using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger approved before update of status, released_at on operator_overrides
    for each row execute function refuse_unapproved();

revoke update on operator_overrides from hcp_api;
grant update (status, approved_by, decided_at, decision_reason, released_at, released_by) on operator_overrides to hcp_api;

-- Who asks, asks: a decision is never written with the question.
revoke insert on approvals from hcp_api, hcp_allocator;
grant insert (facility_id, what, subject, mw, detail, requested_by, expires_at) on approvals to hcp_api, hcp_allocator;

-- An epoch is one owner's, and the next is higher, whoever writes it.
create function refuse_older_epoch() returns trigger language plpgsql as $$
begin
    if new.epoch < old.epoch or (new.epoch = old.epoch and new.owner is distinct from old.owner) then
        raise exception '%: epoch % of % after % of %: epochs only grow, and each is one owner''s',
            new.facility_id, new.epoch, new.owner, old.epoch, old.owner using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger grow before update of owner, epoch on facility_leases
    for each row execute function refuse_older_epoch();
revoke insert, update on facility_leases from hcp_allocator;
grant insert (facility_id) on facility_leases to hcp_allocator;
grant update (owner, epoch, acquired_at, expires_at) on facility_leases to hcp_allocator;

-- What became of an obligation, and never what was sold.
revoke update on grid_obligations from hcp_allocator;
grant update (status, deployed_at, recalled_at, baseline_mw, delivered_fraction, metered_at, longest_gap_s, reason, updated_at)
    on grid_obligations to hcp_allocator;

-- Locks that a gateway holds and Postgres does not know are entered in the books by the owner, so that an operator can lift them.
grant insert (facility_id, scope, slots, holder, reason) on lockouts to hcp_allocator;
grant update (lockouts_version) on facilities to hcp_allocator;

-- The newest failed solve of each facility, which the alerts daemon asks for every few seconds.
create index audit_log_solves on audit_log (subject, id desc) where action = 'alert.solve_failed';

-- What has been learnt, version by version: who promoted which when, from what and on what evidence. One champion a name serves.
create table models (
    id bigint generated always as identity primary key,
    name text not null,
    version integer not null check (version > 0),
    status text not null check (status in ('champion', 'challenger', 'archived')), -- a challenger is asked, and in no decision
    digest text not null,                     -- SHA-256 of the artefact, checked whenever it is read
    trained_until timestamptz not null,       -- world time: nothing that was known later is in it
    metadata jsonb not null default '{}',
    artefact bytea not null check (octet_length(artefact) <= 16777216),
    actor text not null,
    reason text not null,
    created_at timestamptz not null,          -- world time
    recorded_at timestamptz not null default clock_timestamp(),
    is_whole boolean generated always as (digest = encode(sha256(artefact), 'hex')) stored, -- for who may not read the artefact
    is_kept boolean generated always as (octet_length(artefact) > 0) stored, -- false: old, its bytes were let go of
    unique (name, version)
);
create unique index one_champion on models (name) where status = 'champion';
create unique index one_challenger on models (name) where status = 'challenger';
create index audit_log_models on audit_log (subject, id desc) where action in ('model.promote', 'model.rollback');
grant select, insert on models to hcp_control;
grant update (status) on models to hcp_control;
-- No login rewrites a model: this empties it, of what is archived alone.
create function let_go_of_models(of_name text, of_versions integer[]) returns void
language sql security definer set search_path = public, pg_temp as $$
    update models set artefact = '' where name = of_name and version = any(of_versions) and status = 'archived'
$$;
revoke execute on function let_go_of_models from public;
grant execute on function let_go_of_models to hcp_control;
grant select (id, name, version, status, digest, trained_until, metadata, actor, reason, created_at, recorded_at)
    on models to hcp_api;

-- What was really earned is filled in by settlement, and nothing else of a row may change.
grant update (actual_profit) on allocation_history to hcp_control;

-- The feed answers events of demand response servers: what can be met is taken on as `hcp grid award` would, and what the grid
-- says of it is passed on. It reads what an award is judged by, and changes nothing that its owner writes.
grant select on feeders, inventory_generations, device_groups, ramp_budgets, lockouts, operator_overrides, owner_memory,
    gateway_endpoints, grid_obligations to hcp_feed;
grant insert on grid_obligations, audit_log to hcp_feed;
grant update (status, reason, updated_at) on grid_obligations to hcp_feed;
grant update (obligations_version) on facilities to hcp_feed;

-- What was answered to each event, whatever has become of it since.
create index grid_signals_events on grid_signals (source, ends_at) where kind = 'event';

-- What a solve reads of coincident peaks: the newest word on each hour's chance. Every word there ever was is in the lake.
create table peak_chances (
    hour_at timestamptz primary key,          -- world time
    probability double precision not null check (probability between 0 and 1), -- that the hour is its month's peak of demand
    known_at timestamptz not null,            -- world time: when that was asked
    recorded_at timestamptz not null default clock_timestamp()
);
grant select, insert on peak_chances to hcp_control;
grant update (probability, known_at, recorded_at) on peak_chances to hcp_control;
grant select on peak_chances to hcp_api;

-- What a solve reads of the GPUs that work will ask for: the champion's newest word, all of it of one asking by one version. Every
-- word there ever was is in the lake.
create table expected_demand (
    demand_class text not null,               -- a class of work
    hour_at timestamptz not null,             -- world time: the hour that is meant begins
    gpus double precision[] not null          -- quantiles, lowest first
        check (cardinality(gpus) > 0 and array_position(gpus, null) is null
            and gpus[1] >= 0 and 'Infinity' > all (gpus)),
    model text not null,                      -- name and version that said it
    asked_at timestamptz not null,            -- world time: nothing that was known later is in it
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (demand_class, hour_at)
);
grant select, insert, delete on expected_demand to hcp_control;
grant select on expected_demand to hcp_api, hcp_operator;

-- Who may use the API: people by password, programs by key. A customer's account sees what is that customer's alone.
create table users (
    id uuid primary key default gen_random_uuid(),
    name text not null check (name ~ '^[a-z0-9][a-z0-9._@+-]{0,99}$'),
    role text not null check (role in ('viewer', 'operator', 'customer', 'admin')),
    customer_id uuid references customers (id),
    password_hash text not null check (password_hash ~ '^\$argon2id\$'),
    is_password_generated boolean not null default false,  -- and not changed since: a production profile refuses it
    session_version integer not null default 1,            -- a token of another version opens nothing
    created_by text not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz,
    check ((role = 'customer') = (customer_id is not null))
);
create unique index one_user_of_a_name on users (name);

create table api_keys (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users (id),
    name text not null check (length(name) between 1 and 100),
    prefix text not null unique check (prefix ~ '^[0-9a-f]{12}$'),
    digest bytea not null check (octet_length(digest) = 32),  -- keyed: of no use without the key in `secrets/`
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
create index api_keys_of_user on api_keys (user_id, created_at);

-- What the API remembers of accounts for some seconds is forgotten at once where it changes.
create function announce_account() returns trigger language plpgsql as $$
begin
    perform pg_notify('hcp_account', tg_table_name || '/' || new.id);
    return null;
end $$;
create trigger announce after update on users for each row execute function announce_account();
create trigger announce after update on api_keys for each row execute function announce_account();

-- Accounts are disabled and keys revoked, never deleted: the audit log names them.
create trigger keep before delete or truncate on users for each statement execute function refuse_rewrite();
create trigger keep before delete or truncate on api_keys for each statement execute function refuse_rewrite();

-- Replies to writes that named an idempotency key: the same request again gets the same reply.
create table idempotent_replies (
    owner text not null,                      -- the account
    key text not null check (length(key) between 1 and 200),
    request_digest bytea not null check (octet_length(request_digest) = 32),
    status smallint,                          -- null while the first request is at work
    reply jsonb,
    created_at timestamptz not null default now(),
    primary key (owner, key),
    check ((status is null) = (reply is null))
);
create index idempotent_replies_old on idempotent_replies (created_at);

-- Requests per minute by tier, and how many may come at once; `staff` are viewers, operators and admins.
create table request_limits (
    tier text primary key check (tier in ('anonymous', 'free', 'pro', 'enterprise', 'staff')),
    per_minute integer not null check (per_minute > 0),
    burst integer not null check (burst > 0)
);
insert into request_limits (tier, per_minute, burst) values
    ('anonymous', 120, 60), ('free', 120, 60), ('pro', 1000, 500), ('enterprise', 30000, 12000), ('staff', 3000, 1000);

grant select on users, api_keys, idempotent_replies, request_limits to hcp_api;
grant insert on users, api_keys, customers, idempotent_replies to hcp_api;
grant update (password_hash, is_password_generated, session_version, disabled_at) on users to hcp_api;
grant update (revoked_at) on api_keys to hcp_api;
grant update (name, email, tier, updated_at) on customers to hcp_api;
grant update (status, reply), delete on idempotent_replies to hcp_api;

-- The queue of customers' work. submitted_at, queued_at, changed_at and what follows from them are world time; leases, created_at,
-- updated_at and recorded_at are real.
alter table workloads
    add column number bigint generated always as identity, -- in the order of submission
    add column tier text not null default 'free' check (tier in ('free', 'pro', 'enterprise')),
    add column spec jsonb not null default '{}',            -- as it was asked for; `requirements` has the defaults filled in
    add column classification jsonb not null default '{}',
    add column is_flagged boolean not null default false,
    add column idempotency_key text check (length(idempotency_key) between 1 and 200),
    add column gpu_type text not null default '',
    add column gpu_count integer not null default 1 check (gpu_count > 0),
    add column memory_gb double precision,
    add column estimated_duration_s double precision not null default 3600
        check (estimated_duration_s > 0 and estimated_duration_s < 'infinity'),
    add column is_interruptible boolean not null default true,
    add column deadline_at timestamptz,
    add column submitted_at timestamptz not null default now(),
    add column changed_at timestamptz not null default now(),  -- of the last transition; whoever makes one says when
    add column reason text not null default '',
    add column actor text not null default '',
    -- in the queue: since when, at which level (the priority, less what waiting has lifted it), and before whom of the same customer
    add column queued_at timestamptz,
    add column level smallint check (level between 1 and 10),
    add column ages_at timestamptz,
    add column start_by timestamptz not null default 'infinity',
    -- who holds it, under which number: claims in the queue, and GPUs from then on; free to be claimed once expires_at has passed
    add column lease_owner text,
    add column lease_epoch bigint not null default 0,
    add column lease_expires_at timestamptz not null default '-infinity',
    add column retries_left integer not null default 3 check (retries_left >= 0),
    add column facility_id text references facilities (id),
    add column placement jsonb not null default '{}',
    add column usd_per_gpu_hour numeric(12, 6) check (usd_per_gpu_hour >= 0 and usd_per_gpu_hour < 'infinity'),
    add column running_since timestamptz,
    add column actual_duration_s double precision not null default 0,  -- of all its runs
    add column used_gpu_s double precision not null default 0,
    add column charged_gpu_s double precision not null default 0,      -- to its customer's share: what it has used and may yet use
    add column result jsonb;
update workloads set level = priority, queued_at = case status when 'queued' then submitted_at end;
alter table workloads
    alter column level set not null,
    add constraint waits check (case status when 'queued' then queued_at is not null when 'paused' then true else queued_at is null end),
    add constraint held check (case
        when status in ('scheduled', 'running') then lease_owner is not null
        when status = 'paused' then lease_owner is not null or queued_at is not null
        when status = 'queued' then true else lease_owner is null end);
create unique index workloads_numbered on workloads (number);
create index workloads_of_customer on workloads (customer_id, number);
create unique index workloads_once on workloads (customer_id, idempotency_key) where idempotency_key is not null;
create index workloads_waiting on workloads (customer_id, level, start_by, number) where queued_at is not null;
create index workloads_ageing on workloads (ages_at) where queued_at is not null and ages_at is not null;
create index workloads_leased on workloads (lease_expires_at) where lease_owner is not null;

-- The numbers that an operator may change: shares of levels and tiers, limits, ageing.
create table queue_rules (
    is_only boolean primary key default true check (is_only),
    max_waiting integer not null check (max_waiting > 0),
    level_after_s double precision not null check (level_after_s > 0),     -- of waiting, world time: one level up
    highest_level smallint not null check (highest_level between 1 and 10), -- which waiting reaches
    hold_after_s double precision not null check (hold_after_s > 0),        -- of waiting: smaller work no longer passes by
    half_life_s double precision not null check (half_life_s > 0)           -- of what an absent customer has used too much
);
insert into queue_rules (max_waiting, level_after_s, highest_level, hold_after_s, half_life_s) values (100000, 1800, 2, 3600, 86400);

create table queue_levels (
    level smallint primary key check (level between 1 and 10),
    weight double precision not null check (weight > 0 and weight < 'infinity'),
    max_waiting integer not null check (max_waiting > 0)
);
insert into queue_levels (level, weight, max_waiting)
    select n, w, 50000 from unnest(array[50, 25, 15, 5, 3, 1, 1, 1, 1, 1]) with ordinality as given (w, n);

create table tier_quotas (
    tier text primary key check (tier in ('free', 'pro', 'enterprise')),
    weight double precision not null check (weight > 0 and weight < 'infinity'),
    max_waiting integer not null check (max_waiting >= 0),
    max_gpus integer not null check (max_gpus >= 0),            -- held at a time
    max_retries integer not null check (max_retries >= 0)
);
insert into tier_quotas (tier, weight, max_waiting, max_gpus, max_retries) values
    ('free', 1, 1000, 512, 3), ('pro', 4, 10000, 8192, 3), ('enterprise', 16, 50000, 65536, 5);

-- What one customer has instead of the tier's; null: as the tier.
create table customer_quotas (
    customer_id uuid primary key references customers (id),
    weight double precision check (weight > 0 and weight < 'infinity'),
    max_waiting integer check (max_waiting >= 0),
    max_gpus integer check (max_gpus >= 0),
    max_retries integer check (max_retries >= 0),
    refused_because text not null default '',                   -- not empty: nothing more is taken
    updated_by text not null,
    updated_at timestamptz not null default now()
);

-- Shares. What a customer has used, over its weight, and within it what each level has: claims alone write that. What waits and what
-- is held follow the workloads, by trigger.
create table queue_customers (
    customer_id uuid primary key references customers (id),
    waiting integer not null default 0 check (waiting >= 0),
    gpus integer not null default 0 check (gpus >= 0),
    used double precision not null default 0,
    is_backlogged boolean not null default false,
    left_at timestamptz
);
create index queue_customers_waiting on queue_customers (customer_id) where waiting > 0 or is_backlogged;
create table queue_flows (
    customer_id uuid not null references customers (id),
    level smallint not null check (level between 1 and 10),
    waiting integer not null default 0 check (waiting >= 0),
    used double precision not null default 0,
    is_backlogged boolean not null default false,
    left_at timestamptz,
    primary key (customer_id, level)
);
create index queue_flows_waiting on queue_flows (level) include (waiting) where waiting > 0;

-- What work turned out to use beside what was charged for it; the next claim takes it in.
create table queue_usage (
    id bigint generated always as identity primary key,
    customer_id uuid not null,
    tier text not null,
    level smallint not null,
    gpu_s double precision not null
);

-- Every transition, and every return to the queue.
create table workload_events (
    id bigint generated always as identity primary key,
    workload_id uuid not null references workloads (id),
    customer_id uuid not null,
    old_status text,                          -- null: submitted
    new_status text not null,
    is_waiting boolean not null,
    lease_epoch bigint not null,
    reason text not null,
    actor text not null,
    occurred_at timestamptz not null,         -- world time
    recorded_at timestamptz not null default clock_timestamp(),
    transaction_id xid8 not null default pg_current_xact_id(),
    -- what it is billed by, as things stood then
    type text not null,
    tier text not null,
    priority integer not null,
    gpu_type text not null,
    gpu_count integer not null,
    estimated_duration_s double precision not null,
    deadline_at timestamptz,
    facility_id text,
    usd_per_gpu_hour numeric(12, 6),
    retries_left integer not null,
    used_gpu_s double precision not null
);
create index workload_events_order on workload_events (transaction_id, id);
create index workload_events_of_customer on workload_events (customer_id, transaction_id, id);
create index workload_events_of_workload on workload_events (workload_id, id);
create trigger append_only before update or delete or truncate on workload_events
    for each statement execute function refuse_rewrite();
create trigger keep before delete or truncate on workloads
    for each statement execute function refuse_rewrite();

-- The life of a workload (domain/workloads.py has the same table), and what follows from each step.
create function check_workload() returns trigger language plpgsql as $$
declare
    run_s double precision;
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
        elsif new.status in ('completed', 'failed', 'cancelled') then
            new.completed_at := new.changed_at;
            new.queued_at := null;
            new.lease_owner := null;
            new.ages_at := null;
        end if;
    end if;
    if old.lease_owner is not null and new.lease_owner is null then
        new.charged_gpu_s := new.used_gpu_s;
    end if;
    new.updated_at := now();
    return new;
end $$;
create trigger check_life before insert or update on workloads
    for each row execute function check_workload();

-- As the owner of the tables: nobody else writes events, or counts what waits.
create function follow_workload() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
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
        insert into queue_usage (customer_id, tier, level, gpu_s)
            values (new.customer_id, new.tier, old.level, new.charged_gpu_s - old.charged_gpu_s);
    end if;
    if old.status is distinct from new.status or waits <> waited then
        insert into workload_events (workload_id, customer_id, old_status, new_status, is_waiting, lease_epoch, reason, actor, occurred_at)
            values (new.id, new.customer_id, old.status, new.status, waits, new.lease_epoch, new.reason, new.actor, new.changed_at);
        perform pg_notify('hcp_workload', '');
    end if;
    return null;
end $$;
create trigger follow_new after insert on workloads for each row execute function follow_workload();
create trigger follow after update on workloads for each row
    when (old.status is distinct from new.status or (old.queued_at is null) <> (new.queued_at is null) or old.level <> new.level
          or (old.lease_owner is null) <> (new.lease_owner is null) or old.charged_gpu_s <> new.charged_gpu_s)
    execute function follow_workload();

-- All that the API may change of a workload; whether there was one, and that customer's where one is named.
create function cancel_workload(workload uuid, customer uuid, cancelled_at timestamptz, by_whom text, why text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update workloads set status = 'cancelled', changed_at = cancelled_at, actor = by_whom, reason = why
        where id = workload and (customer is null or customer_id = customer);
    return found;
end $$;
revoke execute on function cancel_workload from public;
grant execute on function cancel_workload to hcp_api, hcp_scheduler;

-- The API takes work in and cancels it; the scheduler alone claims it and follows its life.
grant usage on schema public to hcp_scheduler;
grant select on workloads, customers, queue_rules, queue_levels, tier_quotas, customer_quotas, queue_customers, queue_flows,
    queue_usage, workload_events, facilities, feeders, inventory_generations, device_groups, resources, allocation_headers,
    allocations, price_data, latest_prices, policies, process_cursors to hcp_scheduler;
grant update (status, changed_at, reason, actor, queued_at, level, ages_at, lease_owner, lease_epoch, lease_expires_at, retries_left,
    facility_id, placement, usd_per_gpu_hour, charged_gpu_s, result) on workloads to hcp_scheduler;
grant update (used, is_backlogged, left_at) on queue_customers, queue_flows to hcp_scheduler;
grant delete on queue_usage to hcp_scheduler;
grant insert on audit_log, process_cursors to hcp_scheduler;
grant update on process_cursors to hcp_scheduler;
grant select on queue_rules, queue_levels, tier_quotas, customer_quotas, queue_customers, queue_flows, workload_events to hcp_api;
grant insert (customer_id, type, priority, level, requirements, sla_parameters, tier, spec, classification, is_flagged, idempotency_key,
    gpu_type, gpu_count, memory_gb, estimated_duration_s, is_interruptible, deadline_at, submitted_at, ages_at, start_by, retries_left,
    reason, actor) on workloads to hcp_api;
grant insert, update on customer_quotas to hcp_api;
grant update on queue_rules, queue_levels, tier_quotas to hcp_api;
grant select on queue_levels, tier_quotas, queue_customers, queue_flows, workload_events to hcp_control;
grant select on workloads, workload_events to hcp_collector;

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

-- Which devices work holds: all of them or none, each by one, and never longer than the work itself is held.
alter table allocation_headers
    add column lease_epoch bigint not null default 0,      -- of the workload, under which they were allocated
    add column reason text not null default '';
create unique index one_allocation_of_a_workload on allocation_headers (workload_id) where status in ('pending', 'active');
create index allocations_of_header on allocations (header_id) where released_at is null;

create table allocation_events (
    id bigint generated always as identity primary key,
    allocation_id uuid not null references allocation_headers (id),
    workload_id uuid not null references workloads (id),
    event text not null check (event in ('allocation.created', 'allocation.released', 'allocation.failed')),
    resources integer not null,
    reason text not null,
    recorded_at timestamptz not null default clock_timestamp(),
    lease_epoch bigint not null,
    devices jsonb                             -- which, at its creation: [{"facility_id", "group_id", "slots"}], slots being the facility's
);
create index allocation_events_of_workload on allocation_events (workload_id, id);
create trigger append_only before update or delete or truncate on allocation_events
    for each statement execute function refuse_rewrite();

create function check_allocation() returns trigger language plpgsql as $$
begin
    if old.status in ('released', 'failed') then
        raise exception 'allocation already %', old.status using errcode = 'check_violation';
    end if;
    if new.status <> all (case old.status when 'pending' then array['active', 'released', 'failed'] else array['released', 'failed'] end)
    then
        raise exception 'invalid allocation transition from % to %', old.status, new.status using errcode = 'check_violation';
    end if;
    new.updated_at := now();
    return new;
end $$;
create trigger check_life before update of status on allocation_headers
    for each row execute function check_allocation();

-- What is let go is available again, unless it has failed or is being mended meanwhile.
create function follow_allocation() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    lines integer;
begin
    if new.status in ('released', 'failed') then
        with freed as (
            update allocations set released_at = now() where header_id = new.id and released_at is null returning resource_id),
        back as (
            update resources r set status = 'available', updated_at = now()
            from freed where r.id = freed.resource_id and r.status = 'allocated' returning r.id)
        select count(*) from freed into lines;
    else
        select count(*) from allocations where header_id = new.id into lines;
    end if;
    insert into allocation_events (allocation_id, workload_id, event, resources, reason)
        values (new.id, new.workload_id, 'allocation.' || case new.status when 'active' then 'created' else new.status end, lines, new.reason);
    perform pg_notify('hcp_allocation', '');
    return null;
end $$;
create trigger follow after update of status on allocation_headers
    for each row execute function follow_allocation();

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
    if old.lease_owner is not null and new.lease_owner is null then
        update allocation_headers set status = 'released', reason = new.reason
            where workload_id = new.id and status in ('pending', 'active');
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
-- Where work can go on from; written under the epoch that holds it, so that a lost node's late word is none.
create table workload_checkpoints (
    id bigint generated always as identity primary key,
    workload_id uuid not null references workloads (id),
    lease_epoch bigint not null,
    location text not null check (length(location) between 1 and 1000),
    progress_s double precision not null check (progress_s >= 0 and progress_s < 'infinity'),  -- of running that it holds
    detail jsonb not null default '{}',
    taken_at timestamptz not null,            -- world time
    recorded_at timestamptz not null default clock_timestamp()
);
create index workload_checkpoints_newest on workload_checkpoints (workload_id, id desc);
create trigger append_only before update or delete or truncate on workload_checkpoints
    for each statement execute function refuse_rewrite();

grant insert on allocation_headers, allocations, workload_checkpoints to hcp_scheduler;
grant update (status, reason) on allocation_headers to hcp_scheduler;
grant update (status, updated_at) on resources to hcp_scheduler;
grant select on allocation_events, workload_checkpoints to hcp_scheduler, hcp_api, hcp_control, hcp_collector;

-- Of 300,000 devices few are not plainly available: how many a group has of each kind is counted over those alone.
create index resources_not_free on resources (facility_id, group_id)
    where status <> 'available' or metadata ->> 'presence' = 'vanished';

-- A transaction that lets go of devices may have begun before the one that took them: released_at is when it happens.
create or replace function follow_allocation() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    lines integer;
begin
    if new.status in ('released', 'failed') then
        with freed as (
            update allocations set released_at = clock_timestamp() where header_id = new.id and released_at is null returning resource_id),
        back as (
            update resources r set status = 'available', updated_at = now()
            from freed where r.id = freed.resource_id and r.status = 'allocated' returning r.id)
        select count(*) from freed into lines;
    else
        select count(*) from allocations where header_id = new.id into lines;
    end if;
    insert into allocation_events (allocation_id, workload_id, event, resources, reason)
        values (new.id, new.workload_id, 'allocation.' || case new.status when 'active' then 'created' else new.status end, lines, new.reason);
    perform pg_notify('hcp_allocation', '');
    return null;
end $$;

-- The newest word on each event, twice a second; how many there were within a day; the newest base point of a facility.
create index grid_signals_by_event on grid_signals (source, (payload ->> 'event_id'), id desc) where kind = 'event';
create index grid_signals_events_told on grid_signals (source, received_at) where kind = 'event';
create index grid_signals_base_points on grid_signals (facility_id, effective_at desc, id desc) where kind = 'base_point';

-- Whose an obligation is: the login that took it on.
alter table grid_obligations add column taken_by text not null default current_user;
update grid_obligations o set taken_by = 'hcp_feed' where exists (
    select from audit_log where actor = 'openadr' and action = 'obligation.awarded' and subject = 'obligation/' || o.id);

-- The feed hears strangers: it takes obligations on and gives back its own, before they are armed; it calls and recalls by signals,
-- and it speaks in nobody else's name.
create function hold_feed_obligation() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        new.taken_by := current_user;
        if new.status = 'awarded' and lower(new.during) is not null and upper(new.during) is not null
            and isfinite(lower(new.during)) and isfinite(upper(new.during))
            and new.deployed_at is null and new.recalled_at is null and new.baseline_mw is null
            and new.delivered_fraction is null and new.metered_at is null
        then
            return new;
        end if;
    elsif old.taken_by = current_user and old.status in ('offered', 'awarded') and new.status = 'withdrawn' then
        return new;
    end if;
    raise exception 'obligation/%: % to % is not the feed''s to write', new.id, lower(tg_op), new.status
        using errcode = 'insufficient_privilege';
end $$;
create trigger hold_feed before insert or update on grid_obligations
    for each row when (current_user = 'hcp_feed') execute function hold_feed_obligation();

create function refuse_feed() returns trigger language plpgsql as $$
begin
    raise exception '%: that is not the feed''s to write', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger hold_feed before insert on audit_log
    for each row when (current_user = 'hcp_feed' and new.actor <> 'openadr') execute function refuse_feed();
create trigger hold_feed before insert on grid_signals
    for each row when (current_user = 'hcp_feed' and new.source like 'operator/%') execute function refuse_feed();
create trigger hold_feed before update of obligations_version on facilities
    for each row when (current_user = 'hcp_feed' and new.obligations_version <> old.obligations_version + 1)
    execute function refuse_feed();

-- What the scheduler wants of devices: a row is one workload's devices of one group, and stands whole or not at all. Its span is a
-- lease in the server's own time, as those of facilities and workloads are: the scheduler renews it by a later valid_until, and takes
-- it back by an earlier one or by the row that supersedes it. Of a workload only the rows of its highest epoch count.
drop index desired_state_open;
alter table desired_state
    drop column devices,
    add column workload_id uuid not null references workloads (id),
    add column lease_epoch bigint not null,
    add column order_index integer not null default 0,  -- of equal priority: the lower one stands longer
    alter column slots set not null,                    -- numbers within the group, ascending, four bytes each, little-endian
    alter column slots set storage external,
    alter column valid_from set default clock_timestamp(),
    alter column valid_until set not null,
    add check (state between 0 and 6),
    add check (priority between 0 and 100),
    add check (octet_length(slots) between 4 and 4000000 and octet_length(slots) % 4 = 0),
    add check (isfinite(valid_from) and isfinite(valid_until)),
    add check (superseded_by <> id);
create index desired_state_in_force on desired_state (facility_id, valid_until) where superseded_by is null;
create index desired_state_newest on desired_state (workload_id, lease_epoch desc);
create index desired_state_supersedes on desired_state (superseded_by) where superseded_by is not null;
create trigger keep before delete or truncate on desired_state
    for each statement execute function refuse_rewrite();

-- A lease that only grows longer wakes nobody: an owner reads all of them every 30 s.
create function announce_desired() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        perform pg_notify('hcp_desired', facility_id) from (select distinct facility_id from new_rows) as f;
    else
        perform pg_notify('hcp_desired', facility_id) from (
            select distinct n.facility_id from new_rows n join old_rows o using (id)
            where n.superseded_by is distinct from o.superseded_by or n.valid_until < o.valid_until) as f;
    end if;
    return null;
end $$;
create trigger announce_new after insert on desired_state
    referencing new table as new_rows for each statement execute function announce_desired();
create trigger announce_changed after update on desired_state
    referencing old table as old_rows new table as new_rows for each statement execute function announce_desired();

-- What became of a desired row, written by the owner of its facility at each change: refused (it can't be), turned_down (not now),
-- holding (its devices are on their way), settled (all of them are acknowledged in its state). A notification says the newest id of
-- its statement; an owner that let go of a facility may have written after its successor: the higher owner_epoch is right.
create table desired_outcomes (
    id bigint generated always as identity primary key,
    desired_state_id bigint not null references desired_state (id),
    facility_id text not null references facilities (id),
    owner_epoch bigint not null,
    state text not null check (state in ('holding', 'turned_down', 'refused', 'settled')),
    reason text not null,
    simulated_at timestamptz not null,        -- world time
    recorded_at timestamptz not null default clock_timestamp()
);
create index desired_outcomes_of_row on desired_outcomes (desired_state_id, owner_epoch desc, id desc);
create trigger append_only before update or delete or truncate on desired_outcomes
    for each statement execute function refuse_rewrite();
create function announce_outcome() returns trigger language plpgsql as $$
begin
    perform pg_notify('hcp_desired_outcome', max(id)::text) from new_rows having count(*) > 0;
    return null;
end $$;
create trigger announce after insert on desired_outcomes
    referencing new table as new_rows for each statement execute function announce_outcome();

grant select on desired_state, desired_outcomes, switch_journal, facility_leases to hcp_scheduler;
grant insert (facility_id, group_id, state, slots, generation, priority, reason, actor, valid_from, valid_until, workload_id,
    lease_epoch, order_index) on desired_state to hcp_scheduler;
grant update (valid_until, superseded_by) on desired_state to hcp_scheduler;
grant select on desired_outcomes to hcp_control, hcp_allocator, hcp_api, hcp_collector;
grant insert on desired_outcomes to hcp_allocator;

-- What work is billed by, on its events: `workloads` says only how things stand now, and a run's place and rate are the next run's.
create function devices_of_allocation(allocation uuid) returns jsonb language sql stable as $$
    select jsonb_agg(jsonb_build_object('facility_id', g.facility_id, 'group_id', g.group_id, 'slots', g.slots)
                     order by g.facility_id, g.group_id)
    from (select r.facility_id, r.group_id, jsonb_agg(r.slot order by r.slot) as slots
          from allocations a join resources r on r.id = a.resource_id
          where a.header_id = allocation group by r.facility_id, r.group_id) g
$$;
revoke execute on function devices_of_allocation from public;

create function tell_work() returns trigger language plpgsql as $$
begin
    select w.type, w.tier, w.priority, w.gpu_type, w.gpu_count, w.estimated_duration_s, w.deadline_at, w.facility_id,
           w.usd_per_gpu_hour, w.retries_left, w.used_gpu_s
        into new.type, new.tier, new.priority, new.gpu_type, new.gpu_count, new.estimated_duration_s, new.deadline_at,
             new.facility_id, new.usd_per_gpu_hour, new.retries_left, new.used_gpu_s
        from workloads w where w.id = new.workload_id;
    return new;
end $$;
create function tell_devices() returns trigger language plpgsql as $$
begin
    new.lease_epoch := (select lease_epoch from allocation_headers where id = new.allocation_id);
    if new.event = 'allocation.created' then
        new.devices := devices_of_allocation(new.allocation_id);
    end if;
    return new;
end $$;
create trigger tell before insert on workload_events for each row execute function tell_work();
create trigger tell before insert on allocation_events for each row execute function tell_devices();

-- Where work was sent and why, or why it has no place yet. The devices of what was placed are in its allocation.
create table routing_decisions (
    id bigint generated always as identity primary key,
    workload_id uuid not null references workloads (id),
    lease_epoch bigint not null,              -- under which it was claimed
    outcome text not null check (outcome in ('placed', 'none', 'overflow')),  -- overflow: a cloud would do; not carried out
    facility_id text references facilities (id),
    group_id text,
    devices integer not null check (devices > 0),
    cost_usd_per_hour double precision,       -- energy at the meter; of an overflow the rent
    latency_ms double precision,
    score double precision check (score between 0 and 100),
    confidence double precision check (confidence between 0 and 1),
    reason text not null,
    explanation jsonb not null default '[]',  -- [[facility/group, score or why not], …]
    decided_at timestamptz not null,          -- world time
    recorded_at timestamptz not null default clock_timestamp(),
    check ((outcome = 'placed') = (group_id is not null))
);
create index routing_decisions_of_workload on routing_decisions (workload_id, id desc);
create trigger append_only before update or delete or truncate on routing_decisions
    for each statement execute function refuse_rewrite();

grant insert on routing_decisions to hcp_scheduler;
grant select on routing_decisions to hcp_scheduler, hcp_api, hcp_control, hcp_collector;
grant select on lockouts, policy_admissions to hcp_scheduler;

-- What the queue is worth to the optimizer. Both are an operator's numbers: what is owed of the price of work whose deadline is missed,
-- or that is interrupted though it said that it can't be (ours, stated as such: contracts state their own); and the share of a
-- scheduled group's GPUs that the price may keep ready for work that comes between two solves.
alter table tier_quotas add column credit_fraction double precision not null default 0
    check (credit_fraction >= 0 and credit_fraction <= 100);
update tier_quotas set credit_fraction = case tier when 'enterprise' then 0.25 when 'pro' then 0.1 else 0 end;
alter table queue_rules add column spare_gpu_fraction double precision not null default 0.05
    check (spare_gpu_fraction >= 0 and spare_gpu_fraction <= 1);
grant select on workloads, workload_checkpoints, desired_state, queue_rules to hcp_control;

-- A key that was made with another one is its child: it ends with it, and is revoked with it.
alter table api_keys add column parent_id uuid references api_keys (id);
create index api_keys_of_parent on api_keys (parent_id) where parent_id is not null;

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

-- Events of allocations tell their devices also once those were let go of: without this index each event reads all there ever were.
drop index allocations_of_header;
create index allocations_of_header on allocations (header_id);

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

-- What use of devices is foreseen, day by day, and how many are recommended: the newest forecast of a day counts, older ones stay
-- to be judged by.
create table capacity_forecasts (
    facility_id text not null references facilities (id),
    type text not null check (type in ('GPU', 'ASIC', 'CPU')),
    day date not null,                        -- of the world, UTC
    predicted_utilization double precision not null check (predicted_utilization between 0 and 1),
    recommended_capacity integer not null check (recommended_capacity >= 0),  -- devices, a buffer among them
    model text not null check (model <> ''),  -- name/version, as `models` has it
    made_at timestamptz not null,             -- world time: nothing later was known
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (facility_id, type, day, made_at)
);
grant select on capacity_forecasts to hcp_api, hcp_operator, hcp_control, hcp_collector;
grant insert on capacity_forecasts to hcp_control;

-- An explanation of a facility rests on the grid's signals and on what is desired of its devices: the API tells it as the command
-- line does, and gives neither.
grant select on grid_signals, desired_state to hcp_api;

-- The newest admitted policy of a facility, asked for every few seconds.
create index policy_admissions_newest on policy_admissions (facility_id, policy_id desc) where is_admitted;

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

-- Which cloud would do for work that has no place here, for how many dollars in all and by when. Told, never carried out; what was
-- decided before this has it in its reason's words alone.
alter table routing_decisions
    add column cloud_provider text,
    add column cloud_region text,
    add column cloud_usd double precision check (cloud_usd >= 0),
    add column cloud_done_at timestamptz,     -- world time
    add constraint routing_decisions_cloud check (outcome = 'overflow' or num_nonnulls(cloud_provider, cloud_region, cloud_usd, cloud_done_at) = 0);

-- Who promotes a model, or takes it back, is a person with a reason: what is in it they need not read.
grant select (is_whole, is_kept) on models to hcp_operator;
grant update (status) on models to hcp_operator;

-- What follows from the steps of work is done for all rows of a statement at once: hundreds of pieces are claimed and given places
-- together, and the counts of one customer were written once for each. Counts are differences of sums over the rows as they are and
-- as they were, with no join between the two: a plan that Postgres made for one row would take forever for thousands.
create function follow_new_workloads() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into queue_customers as c (customer_id, waiting, gpus)
        select customer_id, count(queued_at), coalesce(sum(gpu_count) filter (where lease_owner is not null), 0)
        from new_rows group by customer_id order by customer_id
        on conflict (customer_id) do update set waiting = c.waiting + excluded.waiting, gpus = c.gpus + excluded.gpus;
    insert into queue_flows as f (customer_id, level, waiting)
        select customer_id, level, count(*) from new_rows where queued_at is not null group by customer_id, level order by 1, 2
        on conflict (customer_id, level) do update set waiting = f.waiting + excluded.waiting;
    insert into queue_shares as s (customer_id, gpu_type, waiting)
        select customer_id, gpu_type, count(*) from new_rows where queued_at is not null group by customer_id, gpu_type order by 1, 2
        on conflict (customer_id, gpu_type) do update set waiting = s.waiting + excluded.waiting;
    insert into workload_events (
        workload_id, customer_id, new_status, is_waiting, lease_epoch, reason, actor, occurred_at, type, tier, priority, gpu_type,
        gpu_count, estimated_duration_s, deadline_at, facility_id, usd_per_gpu_hour, retries_left, used_gpu_s)
        select id, customer_id, status, queued_at is not null, lease_epoch, reason, actor, changed_at, type, tier, priority, gpu_type,
               gpu_count, estimated_duration_s, deadline_at, facility_id, usd_per_gpu_hour, retries_left, used_gpu_s
        from new_rows order by number;
    perform pg_notify('hcp_workload', '') where exists (select from new_rows);
    return null;
end $$;

create function follow_workloads() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    told uuid[];          -- of whom there is an event: a step, or a return to the queue
    were text[];          -- their states before it
    let_go uuid[];        -- who is held no more
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
        update allocation_headers h set status = 'released', reason = n.reason
            from new_rows n where n.id = any (let_go) and h.workload_id = n.id and h.status in ('pending', 'active');
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
drop trigger follow_new on workloads;
drop trigger follow on workloads;
drop function follow_workload;
create trigger follow_new after insert on workloads referencing new table as new_rows
    for each statement execute function follow_new_workloads();
create trigger follow after update on workloads referencing old table as old_rows new table as new_rows
    for each statement execute function follow_workloads();
drop trigger tell on workload_events;
drop function tell_work;

create function follow_allocations() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    told uuid[] := array(
        select id from (select id, status from new_rows except select id, status from old_rows) changes);
begin
    if told = '{}' then
        return null;
    end if;
    with freed as (
        update allocations a set released_at = clock_timestamp()
        from new_rows n where n.id = any (told) and n.status in ('released', 'failed') and a.header_id = n.id and a.released_at is null
        returning a.header_id, a.resource_id),
    back as (
        update resources r set status = 'available', updated_at = now()
        from freed where r.id = freed.resource_id and r.status = 'allocated')
    insert into allocation_events (allocation_id, workload_id, event, resources, reason, lease_epoch)
        select n.id, n.workload_id, 'allocation.' || n.status, count(freed.resource_id), n.reason, n.lease_epoch
        from new_rows n left join freed on freed.header_id = n.id
        where n.id = any (told) and n.status in ('released', 'failed')
        group by n.id, n.workload_id, n.status, n.reason, n.lease_epoch;
    insert into allocation_events (allocation_id, workload_id, event, resources, reason, lease_epoch, devices)
        select id, workload_id, 'allocation.created', sum(devices), reason, lease_epoch,
               jsonb_agg(jsonb_build_object('facility_id', facility_id, 'group_id', group_id, 'slots', slots)
                         order by facility_id, group_id) filter (where devices > 0)
        from (select n.id, n.workload_id, n.reason, n.lease_epoch, r.facility_id, r.group_id, count(a.resource_id) as devices,
                     jsonb_agg(r.slot order by r.slot) as slots
              from new_rows n left join allocations a on a.header_id = n.id left join resources r on r.id = a.resource_id
              where n.id = any (told) and n.status = 'active'
              group by n.id, n.workload_id, n.reason, n.lease_epoch, r.facility_id, r.group_id) parts
        group by id, workload_id, reason, lease_epoch;
    perform pg_notify('hcp_allocation', '');
    return null;
end $$;
drop trigger follow on allocation_headers;
drop function follow_allocation;
create trigger follow after update on allocation_headers referencing old table as old_rows new table as new_rows
    for each statement execute function follow_allocations();
drop trigger tell on allocation_events;
drop function tell_devices;
drop function devices_of_allocation;

-- What is to run on a desired row's devices, as a gateway hands it to them: what is not said takes the wire's own defaults. All of it is
-- what a gateway takes (hcp_pipelines/wire/work.py), so that no row can spoil the command in which it leaves.
alter table desired_state
    add column model text not null default '' check (length(model) <= 100 and model ~ '^[ -~]*$'),
    add column weights_gib double precision not null default 0 check (weights_gib between 0 and 10000),
    add column gpus_each smallint not null default 1 check (gpus_each between 1 and 8),  -- over how many GPUs of a node one copy goes
    add column load text not null default 'cold' check (load in ('cold', 'streamed')),
    add column checkpoint text not null default '' check (length(checkpoint) <= 500 and checkpoint ~ '^[ -~]*$');  -- empty: none
grant insert (model, weights_gib, gpus_each, load, checkpoint) on desired_state to hcp_scheduler;

-- What bills go by beside rates and prices, from when on: a day that is billed again goes by the terms of its own time, whatever a
-- facility file or a tier says since. A row is added where they differ from those in force, and where they are put right from an
-- earlier day on; of rows from one instant on the newest counts.
create table billing_terms (
    id bigint generated always as identity primary key,
    valid_from timestamptz not null,          -- world time, of days that begin then or later
    noted_at timestamptz not null,            -- world time: what was billed before it knew nothing of it
    terms jsonb not null,                     -- facilities and settings, `workloads.billing.terms`
    credit_fractions jsonb not null,          -- by tier, the share of its price that is owed where a deadline is missed
    reason text not null check (reason <> ''),
    recorded_at timestamptz not null default clock_timestamp(),
    check (valid_from <= noted_at)
);
create trigger append_only before update or delete or truncate on billing_terms
    for each statement execute function refuse_rewrite();
grant select, insert on billing_terms to hcp_control, hcp_operator;
grant select on billing_terms to hcp_collector;

-- What a customer pays a GPU-hour of a type, whatever was agreed as its work was placed; null: nothing of its own any more.
create table customer_rates (
    id bigint generated always as identity primary key,
    customer_id uuid not null references customers (id),
    gpu_type text not null check (gpu_type <> ''),
    usd_per_gpu_hour numeric(12, 6) check (usd_per_gpu_hour >= 0),
    valid_from timestamptz not null,          -- world time, of days that begin then or later
    noted_at timestamptz not null,            -- world time
    actor text not null,
    recorded_at timestamptz not null default clock_timestamp()
);
create trigger append_only before update or delete or truncate on customer_rates
    for each statement execute function refuse_rewrite();
grant select, insert on customer_rates to hcp_operator;
grant select on customer_rates to hcp_control;

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

-- A plan is made once and kept, with few rows or with hundreds: rows of large tables are then looked up by index, never joined to all.
alter function follow_workloads() set enable_hashjoin = off;
alter function follow_workloads() set enable_mergejoin = off;
alter function follow_allocations() set enable_hashjoin = off;
alter function follow_allocations() set enable_mergejoin = off;

-- Why a row does not run, for who goes by it, in one word beside the sentence for people; which of its devices are why; and whether
-- their driver tells what becomes of work that lets go of them.
alter table desired_outcomes
    add column cause text not null default ''
        check (cause in ('', 'room', 'order', 'locked', 'held', 'dark', 'dead', 'mode', 'inventory', 'unfit', 'silent', 'work')),
    add column slots bytea check (octet_length(slots) % 4 = 0),  -- as those of desired_state
    add column tells_saved boolean not null default false;

-- What gateways tell of work that was to stand still: it is kept, under its engine's name if that has one, or why it is not.
create table saved_work (
    id bigint generated always as identity primary key,
    event_id uuid not null unique,            -- of the gateway's log: told twice it is one
    facility_id text not null references facilities (id),
    generation bigint not null,
    workload_id uuid not null,                -- as the gateway says it
    slots bytea not null,                     -- roaring, the facility's
    checkpoint text not null,
    problem text not null,                    -- empty: it is kept
    simulated_at timestamptz not null,
    recorded_at timestamptz not null default clock_timestamp()
);
create index saved_work_newest on saved_work (workload_id, id);
create trigger append_only before update or truncate on saved_work for each statement execute function refuse_rewrite();
create trigger keep_young before delete on saved_work for each row execute function refuse_young();
grant select, insert on saved_work to hcp_allocator;
grant select on saved_work to hcp_scheduler, hcp_control, hcp_api, hcp_collector;

-- Each time that running work was told to stand still and wait again: how far it was, and whether its devices said that they have
-- kept that. What was not kept, or not told of in time, is lost. (`assumed`, of before: nobody could say, and it counted as kept.)
create sequence work_stops_settled;
create table work_stops (
    workload_id uuid not null references workloads (id),
    lease_epoch bigint not null,
    facility_id text not null,
    first_slot integer not null,              -- of the group
    slots bytea not null,                     -- as those of desired_state
    gpu_count integer not null,
    progress_s double precision not null,     -- of running, as it stood still; once settled: as its devices let go of it
    saved_s double precision not null,        -- that its newest checkpoint held until then
    stopped_at timestamptz not null,          -- world time
    due_at timestamptz not null,              -- real: until then it is waited for
    outcome text not null default 'awaited' check (outcome in ('awaited', 'kept', 'not_kept', 'untold', 'assumed')),
    problem text not null default '',
    lost_gpu_s double precision not null default 0 check (lost_gpu_s >= 0),
    recorded_at timestamptz not null default clock_timestamp(),
    running_since timestamptz not null,       -- world time: the run that stood still, with this progress at first
    began_s double precision not null,
    id bigint unique,                         -- given once it is settled: so it is copied to the lake
    primary key (workload_id, lease_epoch),
    constraint work_stops_numbered check ((id is null) = (outcome = 'awaited'))
);
create index work_stops_awaited on work_stops (due_at) where outcome = 'awaited';
create trigger keep before truncate on work_stops for each statement execute function refuse_rewrite();
create trigger keep_young before delete on work_stops for each row execute function refuse_young();
grant select on work_stops to hcp_scheduler, hcp_control, hcp_api, hcp_collector;
grant insert on work_stops to hcp_scheduler;
grant update (outcome, problem, lost_gpu_s, progress_s, id) on work_stops to hcp_scheduler;
grant usage on sequence work_stops_settled to hcp_scheduler;
grant delete on saved_work, work_stops to hcp_control;

-- One transaction takes in several submissions of a customer and writes its levels in the order in which they come: whoever writes
-- more than one of a customer's levels or types has the customer's own row first, as each submission does, and customers in order.
create function lock_customers(customers uuid[]) returns void language sql security definer set search_path = public, pg_temp as $$
    select from queue_customers where customer_id = any (customers) order by customer_id for no key update
$$;
revoke execute on function lock_customers from public;
grant execute on function lock_customers to hcp_scheduler;

create or replace function follow_workloads() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    told uuid[];          -- of whom there is an event: a step, or a return to the queue
    were text[];          -- their states before it
    let_go uuid[];        -- who is held no more
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
        update allocation_headers h set status = 'released', reason = n.reason
            from new_rows n where n.id = any (let_go) and h.workload_id = n.id and h.status in ('pending', 'active');
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

-- A line is a device of its header, once: that is its name, and a number of its own was written and indexed for nobody.
alter table allocations drop column id, add primary key (header_id, resource_id);
drop index allocations_of_header;

-- Postgres makes a plan once and keeps it, with few rows or with thousands: lines, headers and devices are looked up by the names that a
-- statement has, and by nothing else. So no condition here is that of a partial index (a status is compared as an expression): a plan
-- made for few rows would read such an index from end to end, all that is allocated for each piece of work.
create or replace function follow_allocations() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    ended uuid[];
    begun uuid[];
begin
    select array_agg(id) filter (where status in ('released', 'failed')), array_agg(id) filter (where status = 'active')
        into ended, begun
        from (select id, status from new_rows except select id, status from old_rows) changes;
    if ended is not null then
        with freed as (
            update allocations set released_at = clock_timestamp() where header_id = any (ended)
            returning header_id, resource_id),
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

create or replace function follow_workloads() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    told uuid[];          -- of whom there is an event: a step, or a return to the queue
    were text[];          -- their states before it
    let_go uuid[];        -- who is held no more
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
        update allocation_headers h set status = 'released', reason = (select n.reason from new_rows n where n.id = h.workload_id)
            where h.workload_id = any (let_go) and h.status in ('pending', 'active');
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

-- Devices that did not obey often enough to be left alone by their owner have failed for everybody, until it forgives them or another
-- owner begins anew. The owner says which; what else failed for another reason stays as it is.
create function mark_quarantined() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    quarantined integer[] := array(select jsonb_array_elements_text(coalesce(new.memory -> 'quarantined_slots', '[]'))::integer);
begin
    update resources set status = 'failed', metadata = metadata || '{"failed_by": "quarantine"}', updated_at = now()
        where facility_id = new.facility_id and slot = any (quarantined) and status in ('available', 'allocated');
    update resources r set metadata = metadata - 'failed_by', updated_at = now(),
            status = case when exists (select from allocations a where a.resource_id = r.id and a.released_at is null)
                then 'allocated' else 'available' end
        where facility_id = new.facility_id and status = 'failed' and metadata ->> 'failed_by' = 'quarantine'
            and slot <> all (quarantined);
    return null;
end $$;
create trigger mark_quarantined_first after insert on owner_memory for each row execute function mark_quarantined();
create trigger mark_quarantined after update on owner_memory for each row
    when (old.memory -> 'quarantined_slots' is distinct from new.memory -> 'quarantined_slots') execute function mark_quarantined();

-- Numbers with which the arithmetic of shares goes wrong are refused: to Postgres what is not a number is above 0, time without end is no
-- interval, and a use over next to no weight is endless, to which everybody who came back would be lifted.
alter table queue_rules add constraint queue_rules_finite check (
    level_after_s < 'infinity' and key_kept_s < 'infinity' and hold_after_s <= 'infinity' and half_life_s <= 'infinity'
    and proof_gpu_s <= 'infinity');
alter table queue_levels add constraint queue_levels_weight_bounds check (weight between 1e-6 and 1e6);
alter table tier_quotas add constraint tier_quotas_weight_bounds check (weight between 1e-6 and 1e6);
alter table customer_quotas add constraint customer_quotas_weight_bounds check (weight between 1e-6 and 1e6);

-- A device is let go, and is marked or forgiven, by whoever has its row: looked at in the next statement, which sees what the one
-- before has done. Else a release that was not committed yet left a forgiven device allocated to nobody, for ever.
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
        with freed as (
            update allocations set released_at = clock_timestamp() where header_id = any (ended)
            returning header_id, resource_id),
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

-- Who lets many pieces of work go in one transaction takes their devices one piece after the other, in no order. So nobody marks devices
-- who would wait for one and hold another: all at once, or none and again a little later, within some seconds.
create or replace function mark_quarantined() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    quarantined integer[] := array(select jsonb_array_elements_text(coalesce(new.memory -> 'quarantined_slots', '[]'))::integer);
    tries_left integer := 250;
begin
    loop
        begin
            if tries_left > 0 then
                perform from resources
                    where facility_id = new.facility_id and (slot = any (quarantined) or metadata ->> 'failed_by' = 'quarantine')
                    order by id for no key update nowait;
            else
                perform from resources
                    where facility_id = new.facility_id and (slot = any (quarantined) or metadata ->> 'failed_by' = 'quarantine')
                    order by id for no key update;
            end if;
            exit;
        exception when lock_not_available then
            tries_left := tries_left - 1;
        end;
        perform pg_sleep(0.02);
    end loop;
    update resources set status = 'failed', metadata = metadata || '{"failed_by": "quarantine"}', updated_at = now()
        where facility_id = new.facility_id and slot = any (quarantined) and status in ('available', 'allocated');
    update resources r set metadata = metadata - 'failed_by', updated_at = now(),
            status = case when exists (select from allocations a where a.resource_id = r.id and a.released_at is null)
                then 'allocated' else 'available' end
        where facility_id = new.facility_id and status = 'failed' and metadata ->> 'failed_by' = 'quarantine'
            and slot <> all (quarantined);
    return null;
end $$;

-- Alerts that are kept and not told for a while, because somebody said so. What an alert is about is told by its labels; a silence is
-- of all alerts that have each of its own. What is critical is silenced by a word for that alone, and for an hour at most.
create table alert_silences (
    id bigint generated always as identity primary key,
    matches jsonb not null check (jsonb_typeof(matches) = 'object' and matches <> '{}'),
    is_critical boolean not null default false,
    placed_by text not null,
    reason text not null check (reason <> ''),
    placed_at timestamptz not null default clock_timestamp(),
    ends_at timestamptz not null,             -- by itself
    ended_at timestamptz,                     -- before that, by somebody
    ended_by text,
    check ((ended_at is null) = (ended_by is null)),
    constraint ends_in_time check (
        ends_at > placed_at and ends_at <= placed_at + case when is_critical then interval '1 hour' else interval '30 days' end)
);
create index alert_silences_standing on alert_silences (ends_at) where ended_at is null;
create trigger keep before delete or truncate on alert_silences
    for each statement execute function refuse_rewrite();

grant select, insert (matches, is_critical, placed_by, reason, ends_at) on alert_silences to hcp_operator;
grant update (ended_at, ended_by) on alert_silences to hcp_operator;
grant select on alert_silences to hcp_control, hcp_collector;

-- Maintenance: devices that are put to sleep in time under the ramps, left alone from an instant to another one, and given back. A
-- window's lock is one like any other, and so kept by the gateway, too; until `begins_at` it only empties. Instants are simulated, but
-- for planned_at and ended_at.
create table maintenance_windows (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    scope text not null check (scope in ('device', 'feeder', 'site')),
    group_id text,                            -- where the devices are those of a whole group
    feeder_id text,
    slots bytea,
    planned_by text not null,
    reason text not null check (reason <> ''),
    empties_at timestamptz not null,          -- from then on they go to sleep
    begins_at timestamptz not null,
    ends_at timestamptz not null,
    planned_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    ended_by text,
    check (empties_at <= begins_at and begins_at < ends_at),
    constraint ends_in_time check (
        ends_at <= begins_at + interval '30 days' and begins_at <= empties_at + interval '30 days'),
    check ((scope = 'device') = (slots is not null)),
    check ((scope = 'feeder') = (feeder_id is not null)),
    check (group_id is null or scope = 'device'),
    check ((ended_at is null) = (ended_by is null))
);
create index maintenance_windows_standing on maintenance_windows (facility_id) where ended_at is null;
create trigger keep before delete or truncate on maintenance_windows
    for each statement execute function refuse_rewrite();
create trigger announce after insert or update on maintenance_windows
    for each row execute function announce_directive();

alter table lockouts add column maintenance_id bigint references maintenance_windows (id);
alter table lockouts add column is_emptying boolean not null default false check (not is_emptying or maintenance_id is not null);
create unique index one_lockout_of_a_window on lockouts (maintenance_id);

-- A window ends with its lock, whoever removes that.
create function end_maintenance() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update maintenance_windows set ended_at = clock_timestamp(), ended_by = new.removed_by
        where id = new.maintenance_id and ended_at is null;
    return null;
end $$;
create trigger end_maintenance after update of removed_at on lockouts for each row
    when (new.maintenance_id is not null and old.removed_at is null and new.removed_at is not null)
    execute function end_maintenance();

-- What the time has come for: a facility's owner asks for it.
create function advance_maintenance(of_facilities text[], simulated_now timestamptz) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    due record;
    own text;
    step text;
begin
    for due in
        select w.*, l.id as lock_id, l.is_emptying from maintenance_windows w left join lockouts l on l.maintenance_id = w.id
        where w.facility_id = any (of_facilities) and w.ended_at is null and simulated_now >= case
            when l.id is null then w.empties_at when l.is_emptying then w.begins_at else w.ends_at end
        order by w.id for update of w skip locked
    loop
        own := 'maintenance/' || due.id;
        if simulated_now >= due.ends_at then
            step := case when due.lock_id is null then 'missed' else 'over' end;
            update lockouts set removed_at = clock_timestamp(), removed_by = own where id = due.lock_id;
            update maintenance_windows set ended_at = clock_timestamp(), ended_by = own where id = due.id and ended_at is null;
        elsif due.lock_id is null then
            step := case when simulated_now < due.begins_at then 'emptying' else 'begun' end;
            insert into lockouts (facility_id, scope, feeder_id, slots, holder, reason, maintenance_id, is_emptying)
                values (due.facility_id, due.scope, due.feeder_id, due.slots, due.planned_by, own || ': ' || due.reason, due.id,
                        step = 'emptying');
        else
            step := 'begun';
            update lockouts set is_emptying = false where id = due.lock_id;
        end if;
        insert into audit_log (actor, action, subject, detail) values (own, 'maintenance.' || step, own, jsonb_build_object(
            'facility_id', due.facility_id, 'planned_by', due.planned_by, 'reason', due.reason, 'simulated_at', simulated_now));
    end loop;
end $$;
revoke execute on function advance_maintenance from public;
grant execute on function advance_maintenance to hcp_allocator;

-- What keeps an alert from being told now; empty where nothing does. While all of a facility or a group is in a window, it is no news
-- that its devices don't settle or mine too little. What the facility owes or is told by others, its policy and its gateway's books are
-- told as ever.
create function silence_of(told_labels jsonb, told_severity text) returns text language sql volatile as $$
    select coalesce((
        select 'silence/' || id from alert_silences
        where ended_at is null and placed_at <= clock_timestamp() and ends_at > clock_timestamp() and told_labels @> matches
            and (is_critical or told_severity <> 'critical')
        order by ends_at desc limit 1), (
        select 'maintenance/' || w.id from maintenance_windows w
        join lockouts l on l.maintenance_id = w.id and l.removed_at is null
        where w.ended_at is null and told_severity <> 'critical' and told_labels ->> 'kind' in ('boards', 'unsettled')
            and w.facility_id = told_labels ->> 'facility'
            and (w.scope = 'site' or w.group_id = told_labels ->> 'group' or w.feeder_id = told_labels ->> 'feeder')
        order by w.ends_at desc limit 1), '')
$$;

grant select on maintenance_windows to hcp_allocator, hcp_operator, hcp_control, hcp_collector, hcp_feed, hcp_scheduler;
grant insert (facility_id, scope, group_id, feeder_id, slots, planned_by, reason, empties_at, begins_at, ends_at)
    on maintenance_windows to hcp_operator;
grant update (ended_at, ended_by) on maintenance_windows to hcp_operator;

-- What the API explains rests on what stands over a facility, maintenance among it.
grant select on maintenance_windows to hcp_api;

-- Repair cases: a device that its owner has given up on, or that somebody has found broken, until a person says what became of it.
-- Instants are simulated.
create table repair_cases (
    id bigint generated always as identity primary key,
    facility_id text not null references facilities (id),
    slot integer not null check (slot >= 0),
    group_id text not null,
    model text not null,
    reason text not null check (reason <> ''),
    opened_by text not null,                  -- an operator, or quarantine
    opened_at timestamptz not null,
    outcome text check (outcome in ('repaired', 'replaced', 'retired', 'nothing_found')),
    part text not null default '',            -- the spare that it took
    closing_words text not null default '',
    closed_by text,
    closed_at timestamptz,
    check (closed_at >= opened_at),
    check ((closed_at is null) = (closed_by is null) and (closed_at is null) = (outcome is null))
);
create unique index one_open_case on repair_cases (facility_id, slot) where closed_at is null;
create index repair_cases_newest on repair_cases (facility_id, id desc);
create index repair_cases_opened on repair_cases (facility_id, opened_at);
create index repair_cases_of_slot on repair_cases (facility_id, slot, id);
create trigger announce after insert or update on repair_cases
    for each row execute function announce_directive();
create trigger keep before delete or truncate on repair_cases
    for each statement execute function refuse_rewrite();

-- What has come into quarantine since the owner's last word gets a case. More of a group within ten minutes than devices break in them
-- are no broken devices: a switch or a feeder is, and alerts tell of that. It runs as the owner's word is written, with the outcomes
-- of its devices: the slots are compared once, and its plan is the one for many of them, whatever Postgres knows of the tables.
create function open_repair_cases() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    come integer[] := array(
        select jsonb_array_elements_text(coalesce(new.memory -> 'failed_slots', '[]'))::integer
        except select jsonb_array_elements_text(coalesce(old.memory -> 'failed_slots', '[]'))::integer);
begin
    if come = '{}' then
        return null;
    end if;
    insert into repair_cases (facility_id, slot, group_id, model, reason, opened_by, opened_at)
    select new.facility_id, f.slot, f.group_id, f.subtype, 'did not obey often enough to be left alone', 'quarantine', new.simulated_at
    from (
        select r.slot, r.group_id, r.subtype, g.devices, count(*) over (partition by r.group_id) as at_once
        from resources r
        join inventory_generations i on i.facility_id = r.facility_id and i.is_current
        join device_groups g on g.facility_id = r.facility_id and g.generation = i.generation and g.group_id = r.group_id
        where r.facility_id = new.facility_id and r.slot = any (come)) f
    left join (
        select c.group_id, count(distinct c.slot) filter (where c.slot <> all (come)) as cases
        from repair_cases c
        where c.facility_id = new.facility_id and c.opened_by = 'quarantine'
            and c.opened_at between new.simulated_at - interval '10 minutes' and new.simulated_at
        group by c.group_id) lately on lately.group_id = f.group_id
    where f.at_once + coalesce(lately.cases, 0) <= greatest(5, 0.02 * f.devices)
    order by f.slot
    on conflict (facility_id, slot) where closed_at is null do nothing;
    return null;
end $$;
alter function open_repair_cases() set enable_hashjoin = off;
alter function open_repair_cases() set enable_mergejoin = off;
alter function open_repair_cases() set enable_seqscan = off;
create trigger open_repair_cases_first after insert on owner_memory for each row
    when (new.memory ? 'failed_slots') execute function open_repair_cases();
create trigger open_repair_cases after update on owner_memory for each row
    when (new.memory ? 'failed_slots' and old.memory -> 'failed_slots' is distinct from new.memory -> 'failed_slots')
    execute function open_repair_cases();

-- How long repairs took, and what they used, by group.
create view repair_times as
    select facility_id, group_id, model,
        count(*) filter (where closed_at is null) as open,
        count(*) filter (where closed_at is not null) as closed,
        count(*) filter (where outcome = 'nothing_found') as nothing_found,
        avg(extract(epoch from closed_at - opened_at)) filter (where outcome in ('repaired', 'replaced'))::float8
            as mean_time_to_repair_s,
        count(*) filter (where part <> '') as parts
    from repair_cases group by facility_id, group_id, model;

grant select on repair_cases, repair_times to hcp_operator, hcp_control, hcp_collector;
grant select on repair_cases to hcp_allocator, hcp_api;
grant insert (facility_id, slot, group_id, model, reason, opened_by, opened_at) on repair_cases to hcp_operator;
grant update (outcome, part, closing_words, closed_by, closed_at) on repair_cases to hcp_operator;

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

-- How often a tier may ask is an operator's to say, as what it may have is.
grant update (per_minute, burst) on request_limits to hcp_operator;

-- What owners said of one policy, and what they said last of a facility's: asked for every few seconds, and nobody lets go of rows.
create index policy_admissions_of_policy on policy_admissions (policy_id, id desc);
create index policy_admissions_last on policy_admissions (facility_id, id desc);

-- Events among the lines of the audit log, which grows with all that people and work ask for, are looked for every few seconds.
create index audit_log_alerts on audit_log (recorded_at) where action like 'alert.%';

-- What a piece of work had, and what it cost, is asked by it; the index that there was knows only what it has now.
create index allocation_headers_of_work on allocation_headers (workload_id);
