"""What the benchmarks are put together from; `hcp bench` runs none of it by name."""
