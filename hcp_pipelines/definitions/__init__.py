"""The two Dagster code locations; the one place that imports assets, sensors and jobs."""
