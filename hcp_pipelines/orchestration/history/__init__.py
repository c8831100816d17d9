"""History in the lake: fetched by UTC day, audited, published with its revisions.

`tables` names the tables and what a good row is, `fetch` asks the sources, `audit` tells good rows from bad ones, `publish`
writes, `joined` makes one series of ticks and history, `watch` judges what is there, `gaps` finds the days that are not.
"""
