-- The bytes of a version that serves no more, and that nobody would go back to, are let go of; its row and evidence stay.
-- No login rewrites a model: this empties it, of what is archived alone.
alter table models add column is_kept boolean generated always as (octet_length(artefact) > 0) stored;
create function let_go_of_models(of_name text, of_versions integer[]) returns void
language sql security definer set search_path = public, pg_temp as $$
    update models set artefact = '' where name = of_name and version = any(of_versions) and status = 'archived'
$$;
revoke execute on function let_go_of_models from public;
grant execute on function let_go_of_models to hcp_control;
grant select (is_kept) on models to hcp_operator;
