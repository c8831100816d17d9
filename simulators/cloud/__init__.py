"""Public clouds whose GPUs can be rented by the hour: what they cost and whether there are any, in the clouds' own shapes."""
