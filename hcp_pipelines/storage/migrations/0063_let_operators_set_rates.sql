-- How often a tier may ask is an operator's to say, as what it may have is.
grant update (per_minute, burst) on request_limits to hcp_operator;
