"""From prices and inventory to a policy: inputs, the solve, and publishing it. Pure but for `load.py` and `publish.py`."""
