-- What one facility's groups were recommended and did over [start, end), ascending; actual_profit is null until settled.
select "timestamp", resource_id, resource_type, recommended_workload, actual_workload, devices, expected_profit,
       actual_profit::float8, tick_id, policy_id
from allocation_history
where facility_id = %(facility_id)s and "timestamp" >= %(start)s and "timestamp" < %(end)s
order by "timestamp", id
limit %(row_limit)s
