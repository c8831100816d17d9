-- Devices that did not obey often enough to be left alone by their owner have failed for everybody, until it forgives them or another
-- owner begins anew. The owner says which; what else failed for another reason stays as it is.
create function mark_quarantined() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
    quarantined integer[] := array(select jsonb_array_elements_text(coalesce(new.memory -> 'quarantined_slots', '[]'))::integer);
begin
    update resources set status = 'failed', metadata = metadata || '{"failed_by": "quarantine"}', updated_at = now()
        where facility_id = new.facility_id and slot = any (quarantined) and status in ('available', 'allocated');
    update resources r set metadata = metadata - 'failed_by', updated_at = now(),
            status = case when exists (select from allocations a where a.resource_id = r.id and a.released_at is null)
                then 'allocated' else 'available' end
        where facility_id = new.facility_id and status = 'failed' and metadata ->> 'failed_by' = 'quarantine'
            and slot <> all (quarantined);
    return null;
end $$;
create trigger mark_quarantined_first after insert on owner_memory for each row execute function mark_quarantined();
create trigger mark_quarantined after update on owner_memory for each row
    when (old.memory -> 'quarantined_slots' is distinct from new.memory -> 'quarantined_slots') execute function mark_quarantined();
