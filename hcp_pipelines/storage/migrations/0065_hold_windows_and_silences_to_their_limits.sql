-- Who silences or plans says of what, for how long, and why; when that was said is Postgres's word. So limits count from then on, and what
-- was placed by somebody else's clock for later holds nothing back today.
revoke insert on alert_silences, maintenance_windows from hcp_operator;
grant insert (matches, is_critical, placed_by, reason, ends_at) on alert_silences to hcp_operator;
grant insert (facility_id, scope, group_id, feeder_id, slots, planned_by, reason, empties_at, begins_at, ends_at)
    on maintenance_windows to hcp_operator;

-- A window is no way around a silence's limit, nor is what comes before its beginning.
alter table maintenance_windows add constraint ends_in_time check (
    ends_at <= begins_at + interval '30 days' and begins_at <= empties_at + interval '30 days');

-- In a window it is no news that its devices don't settle or mine too little. What the facility owes or is told by others, its policy and
-- its gateway's books are told as ever.
create or replace function silence_of(told_labels jsonb, told_severity text) returns text language sql volatile as $$
    select coalesce((
        select 'silence/' || id from alert_silences
        where ended_at is null and placed_at <= clock_timestamp() and ends_at > clock_timestamp() and told_labels @> matches
            and (is_critical or told_severity <> 'critical')
        order by ends_at desc limit 1), (
        select 'maintenance/' || w.id from maintenance_windows w
        join lockouts l on l.maintenance_id = w.id and l.removed_at is null
        where w.ended_at is null and told_severity <> 'critical' and told_labels ->> 'kind' in ('boards', 'unsettled')
            and w.facility_id = told_labels ->> 'facility'
            and (w.scope = 'site' or w.group_id = told_labels ->> 'group' or w.feeder_id = told_labels ->> 'feeder')
        order by w.ends_at desc limit 1), '')
$$;
