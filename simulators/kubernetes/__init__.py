"""A Kubernetes API server with Jobs and Nodes, over the GPU nodes of a world: as much of it as Jobs with one GPU each need."""
