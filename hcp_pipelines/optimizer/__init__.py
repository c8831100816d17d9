"""What each megawatt should do: strikes, merit order, the published policy."""
