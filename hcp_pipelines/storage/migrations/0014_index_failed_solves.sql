-- The newest failed solve of each facility, which the alerts daemon asks for every few seconds.
create index audit_log_solves on audit_log (subject, id desc) where action = 'alert.solve_failed';
