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
