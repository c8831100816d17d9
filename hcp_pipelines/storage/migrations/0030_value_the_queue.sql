-- What the queue is worth to the optimizer. Both are an operator's numbers: what is owed of the price of work whose deadline is missed,
-- or that is interrupted though it said that it can't be (ours, stated as such: contracts state their own); and the share of a
-- scheduled group's GPUs that the price may keep ready for work that comes between two solves.
alter table tier_quotas add column credit_fraction double precision not null default 0
    check (credit_fraction >= 0 and credit_fraction <= 100);
update tier_quotas set credit_fraction = case tier when 'enterprise' then 0.25 when 'pro' then 0.1 else 0 end;
alter table queue_rules add column spare_gpu_fraction double precision not null default 0.05
    check (spare_gpu_fraction >= 0 and spare_gpu_fraction <= 1);
grant select on workloads, workload_checkpoints, desired_state, queue_rules to hcp_control;
