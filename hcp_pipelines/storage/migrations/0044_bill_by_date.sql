-- What bills go by beside rates and prices, from when on: a day that is billed again goes by the terms of its own time, whatever a
-- facility file or a tier says since. A row is added where they differ from those in force, and where they are put right from an
-- earlier day on; of rows from one instant on the newest counts.
create table billing_terms (
    id bigint generated always as identity primary key,
    valid_from timestamptz not null,          -- world time, of days that begin then or later
    noted_at timestamptz not null,            -- world time: what was billed before it knew nothing of it
    terms jsonb not null,                     -- facilities and settings, `workloads.billing.terms`
    credit_fractions jsonb not null,          -- by tier, the share of its price that is owed where a deadline is missed
    reason text not null check (reason <> ''),
    recorded_at timestamptz not null default clock_timestamp(),
    check (valid_from <= noted_at)
);
create trigger append_only before update or delete or truncate on billing_terms
    for each statement execute function refuse_rewrite();
grant select, insert on billing_terms to hcp_control, hcp_operator;
grant select on billing_terms to hcp_collector;

-- What a customer pays a GPU-hour of a type, whatever was agreed as its work was placed; null: nothing of its own any more.
create table customer_rates (
    id bigint generated always as identity primary key,
    customer_id uuid not null references customers (id),
    gpu_type text not null check (gpu_type <> ''),
    usd_per_gpu_hour numeric(12, 6) check (usd_per_gpu_hour >= 0),
    valid_from timestamptz not null,          -- world time, of days that begin then or later
    noted_at timestamptz not null,            -- world time
    actor text not null,
    recorded_at timestamptz not null default clock_timestamp()
);
create trigger append_only before update or delete or truncate on customer_rates
    for each statement execute function refuse_rewrite();
grant select, insert on customer_rates to hcp_operator;
grant select on customer_rates to hcp_control;
