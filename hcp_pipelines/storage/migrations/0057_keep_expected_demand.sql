-- What a solve reads of the GPUs that work will ask for: the champion's newest word, all of it of one asking by one version. Every
-- word there ever was is in the lake.
create table expected_demand (
    demand_class text not null,               -- a class of work
    hour_at timestamptz not null,             -- world time: the hour that is meant begins
    gpus double precision[] not null          -- quantiles, lowest first
        check (cardinality(gpus) > 0 and array_position(gpus, null) is null
            and gpus[1] >= 0 and 'Infinity' > all (gpus)),
    model text not null,                      -- name and version that said it
    asked_at timestamptz not null,            -- world time: nothing that was known later is in it
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (demand_class, hour_at)
);
grant select, insert, delete on expected_demand to hcp_control;
grant select on expected_demand to hcp_api, hcp_operator;
