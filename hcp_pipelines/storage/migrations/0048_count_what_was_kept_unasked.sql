-- A gateway that let work go by itself has kept it before its owner could say so: what it told since the present run began counts,
-- and progress only up to there.
alter table work_stops add column running_since timestamptz, add column began_s double precision;
update work_stops set running_since = stopped_at, began_s = progress_s;
alter table work_stops alter column running_since set not null, alter column began_s set not null;
grant update (progress_s) on work_stops to hcp_scheduler;
