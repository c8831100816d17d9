-- Alerts that are kept and not told for a while, because somebody said so. What an alert is about is told by its labels; a silence is
-- of all alerts that have each of its own. What is critical is silenced by a word for that alone, and for an hour at most.
alter table alerts add column labels jsonb not null default '{}';
alter table alerts add column silenced_by text not null default ''; -- what keeps it from being told, or did when it ended

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

-- What keeps an alert from being told now; empty where nothing does.
create function silence_of(told_labels jsonb, told_severity text) returns text language sql volatile as $$
    select coalesce((
        select 'silence/' || id from alert_silences
        where ended_at is null and ends_at > clock_timestamp() and told_labels @> matches
            and (is_critical or told_severity <> 'critical')
        order by ends_at desc limit 1), '')
$$;

grant select, insert on alert_silences to hcp_operator;
grant update (ended_at, ended_by) on alert_silences to hcp_operator;
grant select on alert_silences to hcp_control, hcp_collector;
