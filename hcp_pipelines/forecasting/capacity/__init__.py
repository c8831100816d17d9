"""What the fleet will be able to do: available device-hours, failures and use by day. Its models are those of `learnable`."""
