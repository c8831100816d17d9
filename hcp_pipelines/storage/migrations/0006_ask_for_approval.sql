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
