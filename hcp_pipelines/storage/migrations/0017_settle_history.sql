-- What was really earned is filled in by settlement, as money is settled: in NUMERIC, and nothing else of a row may change.
alter table allocation_history alter column actual_profit type numeric(18, 6);
grant update (actual_profit) on allocation_history to hcp_control;
