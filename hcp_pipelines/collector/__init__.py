"""The collector daemon: copies ticks, journal and policies from Postgres to the lake."""
