-- What is wrong, once each: an alert is open from when a condition is seen until it has been away for a while.
create table alerts (
    id bigint generated always as identity primary key,
    key text not null,                        -- which condition of which subject: the same key is the same alert
    severity text not null check (severity in ('info', 'warning', 'critical')),
    subject text not null,
    summary text not null,
    remedy text not null default '',
    opened_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    resolved_at timestamptz,
    acked_at timestamptz,
    acked_by text,
    ack_reason text not null default ''
);
create unique index one_open_alert on alerts (key) where resolved_at is null;
create index alerts_newest on alerts (opened_at desc);

-- What has to leave the machine, by sink; a row is done when it was delivered.
create table alert_deliveries (
    id bigint generated always as identity primary key,
    alert_id bigint not null references alerts (id),
    sink text not null,
    event text not null check (event in ('opened', 'repeated', 'resolved')),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default clock_timestamp(),
    delivered_at timestamptz,
    last_error text not null default '',
    created_at timestamptz not null default clock_timestamp()
);
create index alert_deliveries_due on alert_deliveries (next_attempt_at) where delivered_at is null;
create index alert_deliveries_alert on alert_deliveries (alert_id, sink, id desc);

grant select, insert, update on alerts, alert_deliveries to hcp_api;
grant select on alerts, alert_deliveries to hcp_control, hcp_collector;
grant insert on audit_log to hcp_api;
