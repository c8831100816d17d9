"""What a utility's or a grid operator's demand response server says: OpenADR 2.0b as a VTN, and OpenADR 3.1.

Both tell the same events, those of the scenario's `grid` (`simulators.grid_calls`).
"""
