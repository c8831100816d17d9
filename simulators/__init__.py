"""The outside world: markets, devices, clock. Shares no code with hcp_pipelines."""
