"""What settlement's assets do: read the lake and Postgres, settle days, publish. The arithmetic is in `optimizer.settlement`."""
