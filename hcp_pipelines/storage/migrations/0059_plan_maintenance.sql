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

-- What is told of a facility or a group while all of it is in a window is no news.
create or replace function silence_of(told_labels jsonb, told_severity text) returns text language sql volatile as $$
    select coalesce((
        select 'silence/' || id from alert_silences
        where ended_at is null and ends_at > clock_timestamp() and told_labels @> matches
            and (is_critical or told_severity <> 'critical')
        order by ends_at desc limit 1), (
        select 'maintenance/' || w.id from maintenance_windows w
        join lockouts l on l.maintenance_id = w.id and l.removed_at is null
        where w.ended_at is null and told_severity <> 'critical' and w.facility_id = told_labels ->> 'facility'
            and (w.scope = 'site' or w.group_id = told_labels ->> 'group' or w.feeder_id = told_labels ->> 'feeder')
        order by w.ends_at desc limit 1), '')
$$;

grant select on maintenance_windows to hcp_allocator, hcp_operator, hcp_control, hcp_collector, hcp_feed, hcp_scheduler;
grant insert on maintenance_windows to hcp_operator;
grant update (ended_at, ended_by) on maintenance_windows to hcp_operator;
