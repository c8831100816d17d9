-- What a piece of work had, and what it cost, is asked by it; the index that there was knows only what it has now.
create index allocation_headers_of_work on allocation_headers (workload_id);
