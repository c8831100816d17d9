-- What owners said of one policy, and what they said last of a facility's: asked for every few seconds, and nobody lets go of rows.
create index policy_admissions_of_policy on policy_admissions (policy_id, id desc);
create index policy_admissions_last on policy_admissions (facility_id, id desc);
