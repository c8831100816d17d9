-- What gateways told of work that stood still, and what became of each stop, go to the lake, and go as the steps of work do. A stop is
-- copied once it is settled: it is numbered then.
create sequence work_stops_settled;
alter table work_stops add column id bigint unique;
update work_stops set id = nextval('work_stops_settled') where outcome <> 'awaited';
alter table work_stops add constraint work_stops_numbered check ((id is null) = (outcome = 'awaited'));
grant usage on sequence work_stops_settled to hcp_scheduler;
grant update (id) on work_stops to hcp_scheduler;
drop trigger keep on work_stops;
create trigger keep before truncate on work_stops for each statement execute function refuse_rewrite();
create trigger keep_young before delete on work_stops for each row execute function refuse_young();
drop trigger append_only on saved_work;
create trigger append_only before update or truncate on saved_work for each statement execute function refuse_rewrite();
create trigger keep_young before delete on saved_work for each row execute function refuse_young();
grant delete on saved_work, work_stops to hcp_control;
