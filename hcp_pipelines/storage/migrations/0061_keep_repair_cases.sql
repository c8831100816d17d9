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
grant insert (facility_id, slot, group_id, model, reason, opened_by, opened_at) on repair_cases to hcp_operator;
grant update (outcome, part, closing_words, closed_by, closed_at) on repair_cases to hcp_operator;
