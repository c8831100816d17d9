"""The collector daemon: copies ticks, journal and policies from Postgres to the lake.

`tables` says what is copied, `source` reads it, `horizon` finds the id up to which nothing can still appear, `sink` writes
it, `copier` is one round of that, `service` is the daemon, `telemetry` what it takes from gateways. `upkeep` keeps the lake's
files few; a job of Dagster's calls it.
"""
