"""The bulk device channel of a simulated site (docs/bulk-channel.md), our side."""
