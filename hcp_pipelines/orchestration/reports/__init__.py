"""Reports drawn from the marts: daily operations, market, fleet health; each one file that needs no network.

`make.py` writes them; `daily.py`, `market.py` and `fleet.py` say what is in each. No dagster here: `hcp report` draws them
too.
"""
