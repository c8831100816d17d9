"""The allocator daemon: owns facilities by lease, turns ticks into waves of commands, keeps the journal. No optimizing here."""
