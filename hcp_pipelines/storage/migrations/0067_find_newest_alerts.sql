-- Events among the lines of the audit log, which grows with all that people and work ask for, are looked for every few seconds.
create index audit_log_alerts on audit_log (recorded_at) where action like 'alert.%';
