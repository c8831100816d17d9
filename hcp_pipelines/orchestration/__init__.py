"""What starts Dagster runs quickly: the tick launcher, the warm run launcher, the coordinator, the IO managers."""
