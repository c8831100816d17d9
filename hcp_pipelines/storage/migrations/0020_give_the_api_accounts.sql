-- Who may use the API: people by password, programs by key. A customer's account sees what is that customer's alone.
create table users (
    id uuid primary key default gen_random_uuid(),
    name text not null check (name ~ '^[a-z0-9][a-z0-9._@+-]{0,99}$'),
    role text not null check (role in ('viewer', 'operator', 'customer', 'admin')),
    customer_id uuid references customers (id),
    password_hash text not null check (password_hash ~ '^\$argon2id\$'),
    is_password_generated boolean not null default false,  -- and not changed since: a production profile refuses it
    session_version integer not null default 1,            -- a token of another version opens nothing
    created_by text not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz,
    check ((role = 'customer') = (customer_id is not null))
);
create unique index one_user_of_a_name on users (name);

create table api_keys (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users (id),
    name text not null check (length(name) between 1 and 100),
    prefix text not null unique check (prefix ~ '^[0-9a-f]{12}$'),
    digest bytea not null check (octet_length(digest) = 32),  -- keyed: of no use without the key in `secrets/`
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
create index api_keys_of_user on api_keys (user_id, created_at);

-- What the API remembers of accounts for some seconds is forgotten at once where it changes.
create function announce_account() returns trigger language plpgsql as $$
begin
    perform pg_notify('hcp_account', tg_table_name || '/' || new.id);
    return null;
end $$;
create trigger announce after update on users for each row execute function announce_account();
create trigger announce after update on api_keys for each row execute function announce_account();

-- Accounts are disabled and keys revoked, never deleted: the audit log names them.
create trigger keep before delete or truncate on users for each statement execute function refuse_rewrite();
create trigger keep before delete or truncate on api_keys for each statement execute function refuse_rewrite();

-- Replies to writes that named an idempotency key: the same request again gets the same reply.
create table idempotent_replies (
    owner text not null,                      -- the account
    key text not null check (length(key) between 1 and 200),
    request_digest bytea not null check (octet_length(request_digest) = 32),
    status smallint,                          -- null while the first request is at work
    reply jsonb,
    created_at timestamptz not null default now(),
    primary key (owner, key),
    check ((status is null) = (reply is null))
);
create index idempotent_replies_old on idempotent_replies (created_at);

-- Requests per minute by tier, and how many may come at once; `staff` are viewers, operators and admins.
create table request_limits (
    tier text primary key check (tier in ('anonymous', 'free', 'pro', 'enterprise', 'staff')),
    per_minute integer not null check (per_minute > 0),
    burst integer not null check (burst > 0)
);
insert into request_limits (tier, per_minute, burst) values
    ('anonymous', 120, 60), ('free', 120, 60), ('pro', 1000, 500), ('enterprise', 30000, 12000), ('staff', 3000, 1000);

grant select on users, api_keys, idempotent_replies, request_limits to hcp_api;
grant insert on users, api_keys, customers, idempotent_replies to hcp_api;
grant update (password_hash, is_password_generated, session_version, disabled_at) on users to hcp_api;
grant update (revoked_at) on api_keys to hcp_api;
grant update (name, email, tier, updated_at) on customers to hcp_api;
grant update (status, reply), delete on idempotent_replies to hcp_api;
