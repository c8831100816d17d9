"""Price forecasts, point-in-time: what was not available at the instant asked for does not enter. No decisions."""
