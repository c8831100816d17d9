-- What a solve reads of coincident peaks: the newest word on each hour's chance. Every word there ever was is in the lake.
create table peak_chances (
    hour_at timestamptz primary key,          -- world time
    probability double precision not null check (probability between 0 and 1), -- that the hour is its month's peak of demand
    known_at timestamptz not null,            -- world time: when that was asked
    recorded_at timestamptz not null default clock_timestamp()
);
grant select, insert on peak_chances to hcp_control;
grant update (probability, known_at, recorded_at) on peak_chances to hcp_control;
grant select on peak_chances to hcp_api;
