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
