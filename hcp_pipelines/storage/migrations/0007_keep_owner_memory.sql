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
