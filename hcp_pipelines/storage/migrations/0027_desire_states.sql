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
