-- A plan is made once and kept, with few rows or with hundreds: rows of large tables are then looked up by index, never joined to all.
alter function follow_workloads() set enable_hashjoin = off;
alter function follow_workloads() set enable_mergejoin = off;
alter function follow_allocations() set enable_hashjoin = off;
alter function follow_allocations() set enable_mergejoin = off;
