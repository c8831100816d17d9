-- Models compete: at most one challenger a name is asked beside the champion, and is in no decision. A version whose bytes are not
-- those that were kept shows as such to those who may not read them; who promoted what, and what came before it, is in the audit log.
alter table models drop constraint models_status_check;
alter table models add constraint models_status_check check (status in ('champion', 'challenger', 'archived'));
alter table models add column is_whole boolean generated always as (digest = encode(sha256(artefact), 'hex')) stored;
create unique index one_challenger on models (name) where status = 'challenger';
create index audit_log_models on audit_log (subject, id desc) where action in ('model.promote', 'model.rollback');
grant select (is_whole) on models to hcp_operator;
grant update (status) on models to hcp_operator;
