"""Simulated 8-GPU nodes: a DCGM-shaped exporter and a control agent."""
