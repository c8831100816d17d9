-- An explanation of a facility rests on the grid's signals and on what is desired of its devices: the API tells it as the command
-- line does, and gives neither.
grant select on grid_signals, desired_state to hcp_api;
