-- What an operator may change without a second person, MW. It is the platform's: `hcp up` writes HCP_APPROVAL_MW of its own here.
create table approval_limit (
    is_only boolean primary key default true check (is_only),
    mw double precision not null check (mw > 0),
    updated_at timestamptz not null default now()
);
insert into approval_limit (mw) values (1e9);
grant select on approval_limit to hcp_api;

-- MW that an override can change at most: every device from the farthest state; the whole facility where it says no group or state
-- that there is. The states are those of domain/modes.py, in their order.
create function override_most_mw(facility text, told_scope jsonb, told_value jsonb) returns double precision language sql stable as $$
    select coalesce(
        (select max(abs((own.step ->> 'power_kw')::float8 - (other.step ->> 'power_kw')::float8)) * f.pue / 1000
                * case when (told_value ->> 'devices')::numeric between 1 and g.devices then (told_value ->> 'devices')::numeric
                       else g.devices end
         from inventory_generations i
         join device_groups g using (facility_id, generation)
         cross join jsonb_array_elements(g.ladder) as own (step)
         cross join jsonb_array_elements(g.ladder) as other (step)
         where i.facility_id = f.id and i.is_current and g.group_id = told_scope ->> 'group_id'
           and (own.step ->> 'state')::int = array_position(array[
                   'curtailed', 'idle', 'mining_eco', 'mining_full', 'inference_realtime', 'inference_batch', 'training'],
                   told_value ->> 'state') - 1
         group by g.devices),
        f.capacity_mw)
    from facilities f where f.id = facility
$$;

-- An override stands by itself only while all that its actor has ordered in a quarter of an hour, and nobody has approved, is within
-- the limit together: several small ones are one large one.
create function weigh_override() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('override of ' || new.actor, 0));
    new.created_at := now();
    new.approved_by := null;
    new.mw_change := override_most_mw(new.facility_id, new.scope, new.value);
    if new.mw_change + (
            select coalesce(sum(mw_change), 0) from operator_overrides
            where kind = 'override' and actor = new.actor and status = 'standing' and approved_by is null
              and released_at is null and created_at > now() - interval '15 minutes')
        > (select mw from approval_limit)
    then
        new.status := 'pending';
    end if;
    return new;
end $$;
create trigger weigh before insert on operator_overrides
    for each row when (new.kind = 'override') execute function weigh_override();

create function refuse_unapproved() returns trigger language plpgsql as $$
begin
    if new.status = 'standing' and old.status <> 'standing' and not exists (
        select from approvals
        where what = 'override' and subject = new.id::text and facility_id = new.facility_id and requested_by = new.actor
          and decision = 'approved' and decided_by = new.approved_by)
    then
        raise exception 'override % was not approved', new.id using errcode = 'insufficient_privilege';
    end if;
    if old.released_at is not null and new.released_at is null then
        raise exception '%/% was released', old.kind, old.id using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger approved before update of status, released_at on operator_overrides
    for each row execute function refuse_unapproved();

revoke update on operator_overrides from hcp_api;
grant update (status, approved_by, decided_at, decision_reason, released_at, released_by) on operator_overrides to hcp_api;

-- Who asks, asks: a decision is never written with the question.
revoke insert on approvals from hcp_api, hcp_allocator;
grant insert (facility_id, what, subject, mw, detail, requested_by, expires_at) on approvals to hcp_api, hcp_allocator;

-- An epoch is one owner's, and the next is higher, whoever writes it.
create function refuse_older_epoch() returns trigger language plpgsql as $$
begin
    if new.epoch < old.epoch or (new.epoch = old.epoch and new.owner is distinct from old.owner) then
        raise exception '%: epoch % of % after % of %: epochs only grow, and each is one owner''s',
            new.facility_id, new.epoch, new.owner, old.epoch, old.owner using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger grow before update of owner, epoch on facility_leases
    for each row execute function refuse_older_epoch();
revoke insert, update on facility_leases from hcp_allocator;
grant insert (facility_id) on facility_leases to hcp_allocator;
grant update (owner, epoch, acquired_at, expires_at) on facility_leases to hcp_allocator;

-- What became of an obligation, and never what was sold.
revoke update on grid_obligations from hcp_allocator;
grant update (status, deployed_at, recalled_at, baseline_mw, delivered_fraction, metered_at, longest_gap_s, reason, updated_at)
    on grid_obligations to hcp_allocator;

-- Locks that a gateway holds and Postgres does not know are entered in the books by the owner, so that an operator can lift them.
grant insert (facility_id, scope, slots, holder, reason) on lockouts to hcp_allocator;
grant update (lockouts_version) on facilities to hcp_allocator;
