-- A row is refused for its own work's sake: weights that don't fit, a model or a checkpoint that can't be loaded.
alter table desired_outcomes drop constraint desired_outcomes_cause_check;
alter table desired_outcomes add constraint desired_outcomes_cause_check
    check (cause in ('', 'room', 'order', 'locked', 'held', 'dark', 'dead', 'mode', 'inventory', 'unfit', 'silent', 'work'));
