-- What use of devices is foreseen, day by day, and how many are recommended: the newest forecast of a day counts, older ones stay
-- to be judged by.
create table capacity_forecasts (
    facility_id text not null references facilities (id),
    type text not null check (type in ('GPU', 'ASIC', 'CPU')),
    day date not null,                        -- of the world, UTC
    predicted_utilization double precision not null check (predicted_utilization between 0 and 1),
    recommended_capacity integer not null check (recommended_capacity >= 0),  -- devices, a buffer among them
    model text not null check (model <> ''),  -- name/version, as `models` has it
    made_at timestamptz not null,             -- world time: nothing later was known
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (facility_id, type, day, made_at)
);
grant select on capacity_forecasts to hcp_api, hcp_operator, hcp_control, hcp_collector;
grant insert on capacity_forecasts to hcp_control;
