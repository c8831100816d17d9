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
