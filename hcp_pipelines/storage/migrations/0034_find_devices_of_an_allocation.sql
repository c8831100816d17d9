-- Events of allocations tell their devices also once those were let go of: without this index each event reads all there ever were.
drop index allocations_of_header;
create index allocations_of_header on allocations (header_id);
