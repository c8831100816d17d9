"""Bills of customers' work by UTC day: read from the lake, made by `workloads.billing`, put in the place of what was billed."""
