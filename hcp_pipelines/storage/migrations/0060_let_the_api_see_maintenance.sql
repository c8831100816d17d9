-- What the API explains rests on what stands over a facility, maintenance among it.
grant select on maintenance_windows to hcp_api;
