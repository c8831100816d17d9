"""GPU nodes of a Kubernetes cluster: Jobs that are suspended and resumed, power from the nodes' DCGM exporters."""
