-- A preview starts from what the owner knows.
grant select on owner_memory to hcp_api;
