"""Drivers: transport, codec, device; one folder a protocol."""
