"""The feed daemon: listens to markets and lands ticks in Postgres within milliseconds."""
