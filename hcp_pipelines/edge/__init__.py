"""The gateway daemon near the devices: commands, durable log, settling, local safety. No Postgres here."""
