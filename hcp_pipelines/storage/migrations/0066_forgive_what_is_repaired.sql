-- A facility's owner leaves what is in repair or retired in quarantine, and takes it out as its case is closed.
create index repair_cases_of_slot on repair_cases (facility_id, slot, id);
create trigger announce after insert or update on repair_cases
    for each row execute function announce_directive();
grant select on repair_cases to hcp_allocator, hcp_api;
