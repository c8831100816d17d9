"""Price, demand and capacity models."""
