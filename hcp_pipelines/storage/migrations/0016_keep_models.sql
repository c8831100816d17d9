-- What has been learnt, version by version: who promoted which when, from what and on what evidence. One champion a name serves.
create table models (
    id bigint generated always as identity primary key,
    name text not null,
    version integer not null check (version > 0),
    status text not null check (status in ('champion', 'archived')),
    digest text not null,                     -- SHA-256 of the artefact, checked whenever it is read
    trained_until timestamptz not null,       -- world time: nothing that was known later is in it
    metadata jsonb not null default '{}',
    artefact bytea not null check (octet_length(artefact) <= 16777216),
    actor text not null,
    reason text not null,
    created_at timestamptz not null,          -- world time
    recorded_at timestamptz not null default clock_timestamp(),
    unique (name, version)
);
create unique index one_champion on models (name) where status = 'champion';
grant select, insert on models to hcp_control;
grant update (status) on models to hcp_control;
grant select (id, name, version, status, digest, trained_until, metadata, actor, reason, created_at, recorded_at)
    on models to hcp_api;
