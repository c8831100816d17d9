-- Scalar market rules (caps, floors) with the dates they hold for.
select market, rule, effective_from, effective_to, (value #>> '{}')::float8
from market_rules
where jsonb_typeof(value) = 'number'
order by market, rule, effective_from
