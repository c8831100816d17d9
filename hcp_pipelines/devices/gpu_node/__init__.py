"""GPU nodes: the exporter's metrics and the agent's control API (docs/gpu-agent.md). transport → codec → device."""
