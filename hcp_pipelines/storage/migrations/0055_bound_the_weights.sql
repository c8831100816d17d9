-- Numbers with which the arithmetic of shares goes wrong are refused: to Postgres what is not a number is above 0, time without end is no
-- interval, and a use over next to no weight is endless, to which everybody who came back would be lifted.
alter table queue_rules add constraint queue_rules_finite check (
    level_after_s < 'infinity' and key_kept_s < 'infinity' and hold_after_s <= 'infinity' and half_life_s <= 'infinity'
    and proof_gpu_s <= 'infinity');
alter table queue_levels add constraint queue_levels_weight_bounds check (weight between 1e-6 and 1e6);
alter table tier_quotas add constraint tier_quotas_weight_bounds check (weight between 1e-6 and 1e6);
alter table customer_quotas add constraint customer_quotas_weight_bounds check (weight between 1e-6 and 1e6);
