"""Months of a fleet's past by the hour, from the world's own faults, heat, weather, prices and work: what is forecast on."""
