"""What is forecast by models behind the protocol: one module a target."""
