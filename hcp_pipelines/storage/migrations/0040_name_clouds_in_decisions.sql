-- Which cloud would do for work that has no place here, for how many dollars in all and by when. Told, never carried out; what was
-- decided before this has it in its reason's words alone.
alter table routing_decisions
    add column cloud_provider text,
    add column cloud_region text,
    add column cloud_usd double precision check (cloud_usd >= 0),
    add column cloud_done_at timestamptz,     -- world time
    add constraint routing_decisions_cloud check (outcome = 'overflow' or num_nonnulls(cloud_provider, cloud_region, cloud_usd, cloud_done_at) = 0);
