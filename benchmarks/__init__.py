"""The benchmarks behind hcp bench."""
