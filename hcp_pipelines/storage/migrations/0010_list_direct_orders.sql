-- The last word of each gateway on direct orders: what holds there stands as much as what is ordered here.
create index audit_log_direct on audit_log (subject, id desc) where action in ('gateway.direct', 'gateway.released');
