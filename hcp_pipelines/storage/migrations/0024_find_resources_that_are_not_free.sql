-- Of 300,000 devices few are not plainly available: how many a group has of each kind is counted over those alone.
create index resources_not_free on resources (facility_id, group_id)
    where status <> 'available' or metadata ->> 'presence' = 'vanished';
