-- Why a row does not run, for who goes by it, in one word beside the sentence for people; which of its devices are why; and whether
-- their driver tells what becomes of work that lets go of them.
alter table desired_outcomes
    add column cause text not null default ''
        check (cause in ('', 'room', 'order', 'locked', 'held', 'dark', 'dead', 'mode', 'inventory', 'unfit', 'silent')),
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
create trigger append_only before update or delete or truncate on saved_work
    for each statement execute function refuse_rewrite();
grant select, insert on saved_work to hcp_allocator;
grant select on saved_work to hcp_scheduler, hcp_control, hcp_api, hcp_collector;

-- Each time that running work was told to stand still and wait again: how far it was, and whether its devices said that they have
-- kept that. `assumed`: nobody there can say; it counts as kept. What was not kept, or not told of in time, is lost.
create table work_stops (
    workload_id uuid not null references workloads (id),
    lease_epoch bigint not null,
    facility_id text not null,
    first_slot integer not null,              -- of the group
    slots bytea not null,                     -- as those of desired_state
    gpu_count integer not null,
    progress_s double precision not null,     -- of running, as it stood still
    saved_s double precision not null,        -- that its newest checkpoint held until then
    stopped_at timestamptz not null,          -- world time
    due_at timestamptz not null,              -- real: until then it is waited for
    outcome text not null default 'awaited' check (outcome in ('awaited', 'kept', 'not_kept', 'untold', 'assumed')),
    problem text not null default '',
    lost_gpu_s double precision not null default 0 check (lost_gpu_s >= 0),
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (workload_id, lease_epoch)
);
create index work_stops_awaited on work_stops (due_at) where outcome = 'awaited';
create trigger keep before delete or truncate on work_stops for each statement execute function refuse_rewrite();
grant select on work_stops to hcp_scheduler, hcp_control, hcp_api, hcp_collector;
grant insert on work_stops to hcp_scheduler;
grant update (outcome, problem, lost_gpu_s) on work_stops to hcp_scheduler;
