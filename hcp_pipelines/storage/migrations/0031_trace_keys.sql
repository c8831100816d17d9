-- A key that was made with another one is its child: it ends with it, and is revoked with it.
alter table api_keys add column parent_id uuid references api_keys (id);
create index api_keys_of_parent on api_keys (parent_id) where parent_id is not null;

-- Digests of requests are keyed from now on; those of before would match no request.
delete from idempotent_replies;
