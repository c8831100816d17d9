-- The newest word on each event, twice a second; how many there were within a day; the newest base point of a facility.
create index grid_signals_by_event on grid_signals (source, (payload ->> 'event_id'), id desc) where kind = 'event';
create index grid_signals_events_told on grid_signals (source, received_at) where kind = 'event';
create index grid_signals_base_points on grid_signals (facility_id, effective_at desc, id desc) where kind = 'base_point';

-- Whose an obligation is: the login that took it on.
alter table grid_obligations add column taken_by text not null default current_user;
update grid_obligations o set taken_by = 'hcp_feed' where exists (
    select from audit_log where actor = 'openadr' and action = 'obligation.awarded' and subject = 'obligation/' || o.id);

-- The feed hears strangers: it takes obligations on and gives back its own, before they are armed; it calls and recalls by signals,
-- and it speaks in nobody else's name.
create function hold_feed_obligation() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        new.taken_by := current_user;
        if new.status = 'awarded' and lower(new.during) is not null and upper(new.during) is not null
            and isfinite(lower(new.during)) and isfinite(upper(new.during))
            and new.deployed_at is null and new.recalled_at is null and new.baseline_mw is null
            and new.delivered_fraction is null and new.metered_at is null
        then
            return new;
        end if;
    elsif old.taken_by = current_user and old.status in ('offered', 'awarded') and new.status = 'withdrawn' then
        return new;
    end if;
    raise exception 'obligation/%: % to % is not the feed''s to write', new.id, lower(tg_op), new.status
        using errcode = 'insufficient_privilege';
end $$;
create trigger hold_feed before insert or update on grid_obligations
    for each row when (current_user = 'hcp_feed') execute function hold_feed_obligation();

create function refuse_feed() returns trigger language plpgsql as $$
begin
    raise exception '%: that is not the feed''s to write', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger hold_feed before insert on audit_log
    for each row when (current_user = 'hcp_feed' and new.actor <> 'openadr') execute function refuse_feed();
create trigger hold_feed before insert on grid_signals
    for each row when (current_user = 'hcp_feed' and new.source like 'operator/%') execute function refuse_feed();
create trigger hold_feed before update of obligations_version on facilities
    for each row when (current_user = 'hcp_feed' and new.obligations_version <> old.obligations_version + 1)
    execute function refuse_feed();
