"""How a forecast is learnt, compared, kept, recorded and promoted. No dagster here: assets and commands call it.

`train.py` is the whole way of one run; `targets.py` says what can be learnt; `lessons.py` reads the lake; `judging.py` compares;
`record.py` alone speaks to MLflow; `card.py` draws a version's page; `due.py` says when; `shadow.py` asks the challenger.
"""
