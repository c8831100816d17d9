-- The newest admitted policy of a facility, asked for every few seconds.
create index policy_admissions_newest on policy_admissions (facility_id, policy_id desc) where is_admitted;
