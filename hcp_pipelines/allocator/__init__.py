"""The allocator daemon: leases, tick to plan to commands to acks, journal."""
