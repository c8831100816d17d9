"""The page of a version, one file that needs no network: what it is and learnt from, how good, where bad, what it is worth."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from hcp_pipelines.forecasting.learnable.scoring import ALL, Forecasts
from hcp_pipelines.optimizer.pages import document
from hcp_pipelines.orchestration.reports.drawn import cell, figure
from hcp_pipelines.orchestration.training.trial import CHALLENGER, Trial, overall

MEASURES = ("forecasts", "pinball", "mae", "rmae_naive", "mase", "smape", "coverage_80", "coverage_90")
COVERED = {"coverage_80": 0.8, "coverage_90": 0.9}
OFF_BY = 0.05  # of a coverage: beyond, it is said
SHOWN_FEATURES, SHOWN_ENTITIES = 20, 8
MOST_WEAKNESSES = 12


def draw(name: str, told: Mapping[str, Any], trial: Trial) -> str:
    """The card of a version that has just been learnt; `told` is its metadata."""
    rows = [(who, *(cell(overall(table).get(measure)) for measure in MEASURES)) for who, table in trial.scores.items()]
    sections = [
        ("By how far ahead", [_by_horizon(trial, "pinball", f"Pinball loss, {told['unit']}"), _coverage(trial)]),
        ("Calibration", [_reliability(trial), _pit(trial.forecasts[CHALLENGER])]),
    ]
    if importance := told.get("importance"):
        sections.append(("What its features matter", [_importance(importance)]))
    if trial.value:
        sections.append(("Dollars", [_dollars(trial)]))
    title = f"{name}: {trial.fitted.name}, learnt until {trial.fitted.trained_until:%Y-%m-%d %H:%M}Z"
    return document(title, _notes(told, trial), (("model", *(m.replace("_", " ") for m in MEASURES)), rows), sections)


def weaknesses(trial: Trial) -> Iterator[str]:
    """Where it is no better than the naive forecast, or its intervals don't hold what they say; worst first."""
    table = trial.scores[CHALLENGER].filter(pl.col("forecasts") > 0)
    for row in table.filter(pl.col("rmae_naive") >= 1).sort("rmae_naive", descending=True).iter_rows(named=True):
        yield f"{_where(row)}: its median is {row['rmae_naive']:.2f} times as wrong as the naive forecast"
    for name, share in COVERED.items():
        if name in table.columns:
            off = table.filter((pl.col(name) - share).abs() > OFF_BY).sort(
                (pl.col(name) - share).abs(), descending=True
            )
            for row in off.iter_rows(named=True):
                yield f"{_where(row)}: its {share:.0%} interval held {row[name]:.0%}"
    silent = overall(trial.scores[CHALLENGER])
    if silent["forecasts"] < silent["asked"]:
        yield f"{silent['asked'] - silent['forecasts']:,} of {silent['asked']:,} questions have no answer or no outcome yet"


def _notes(told: Mapping[str, Any], trial: Trial) -> Iterator[str]:
    asked = told["asked"]
    yield (
        f"Quantiles in {told['unit']}, as of the instant they are asked. Learnt from {told.get('rows', 0):,} questions, "
        f"{told.get('first', '?')[:10]} to {told.get('last', '?')[:10]}, of {_entities(told.get('entities', []))}; "
        f"{told.get('rows_that_calibrate', 0):,} of them calibrate it. Window {asked['days']} days, seed {asked['seed']}."
    )
    yield f"Snapshot {told['snapshot_id']} of the lake, code {told['code']}. Parameters: {_flat(told.get('parameters', {}))}."
    yield f"Scored on {trial.window[0]:%Y-%m-%d} to {trial.window[1]:%Y-%m-%d}: its recipe learnt before, nothing of them seen."
    yield _comparison(trial)
    found = list(weaknesses(trial))
    yield "Known weaknesses: " + ("; ".join(found[:MOST_WEAKNESSES]) or "none showed in these weeks") + "."
    if trial.value_note:
        yield f"Dollars: {trial.value_note}."


def _entities(names: Sequence[str]) -> str:
    if not names:
        return "all there is"
    more = f" and {len(names) - SHOWN_ENTITIES} more" if len(names) > SHOWN_ENTITIES else ""
    return ", ".join(names[:SHOWN_ENTITIES]) + more


def _flat(parameters: Mapping[str, Any]) -> str:
    parts = (_flat(each) if isinstance(each, Mapping) else f"{name} {each}" for name, each in parameters.items())
    return ", ".join(parts)


def _comparison(trial: Trial) -> str:
    found = trial.comparison
    if found is None:
        return f"Compared with nothing: {trial.why}."
    other = f"champion {trial.against}" if trial.against is not None else f"{found.other}, since none serves"
    word = "better" if found.is_better else "not better"
    return (
        f"Against {other}: {word}, loss {found.ratio:.3f} times as large (90 %: {found.low:.3f} to {found.high:.3f}, weeks drawn "
        f"anew), p = {found.p_value:.3g} over {found.days} days (Diebold–Mariano)."
    )


def _where(row: Mapping[str, Any]) -> str:
    entity, horizon = row["entity"], row["horizon"]
    return f"{'all' if entity == ALL else entity}, {'all hours' if horizon == ALL else f'{horizon} h'} ahead"


def _by_horizon(trial: Trial, measure: str, title: str) -> go.Figure:
    drawn = figure(title, "", x="hours ahead")
    for who, table in trial.scores.items():
        if measure in table.columns:
            part = table.filter((pl.col("entity") == ALL) & (pl.col("horizon") != ALL))
            drawn.add_scatter(x=part["horizon"].to_list(), y=part[measure].to_list(), name=who, mode="lines+markers")
    drawn.update_xaxes(type="category")
    return drawn


def _coverage(trial: Trial) -> go.Figure:
    drawn = _by_horizon(trial, "coverage_80", "Share of outcomes in the 80 % interval")
    drawn.add_hrect(y0=0.8 - OFF_BY, y1=0.8 + OFF_BY, opacity=0.1, fillcolor="green", line_width=0)
    return drawn


def _reliability(trial: Trial) -> go.Figure:
    drawn = figure("Share of outcomes below each quantile; on the line where calibrated", "share", x="level")
    for who, forecasts in trial.forecasts.items():
        settled = forecasts.settled()
        if len(settled.examples):
            below = (settled.examples.target[:, None] <= settled.quantiles).mean(axis=0)
            drawn.add_scatter(x=list(forecasts.levels), y=below.tolist(), name=who, mode="lines+markers")
    drawn.add_scatter(x=[0, 1], y=[0, 1], name="calibrated", mode="lines", line={"dash": "dot", "color": "grey"})
    return drawn


def _pit(forecasts: Forecasts) -> go.Figure:
    """Between which quantiles outcomes fell: as high everywhere as the dots where calibrated."""
    settled, levels = forecasts.settled(), forecasts.levels
    place = (settled.examples.target[:, None] > settled.quantiles).sum(axis=1)
    share = np.bincount(place, minlength=len(levels) + 1) / max(len(place), 1)
    bounds = [0.0, *levels, 1.0]
    names = [f"{low:g}–{high:g}" for low, high in pairwise(bounds)]
    drawn = figure("Between which levels outcomes fell", "share of outcomes", x="levels")
    drawn.add_bar(x=names, y=share.tolist(), name="found")
    drawn.add_scatter(x=names, y=np.diff(bounds).tolist(), name="calibrated", mode="markers")
    return drawn


def _importance(importance: Mapping[str, float]) -> go.Figure:
    most = sorted(importance.items(), key=lambda each: each[1])[-SHOWN_FEATURES:]
    drawn = figure("Share of what splits on each feature gained", "", height=max(420, 22 * len(most)))
    drawn.add_bar(x=[share for _, share in most], y=[name for name, _ in most], orientation="h", name="gain")
    drawn.update_yaxes(dtick=1)
    return drawn


def _dollars(trial: Trial) -> go.Figure:
    drawn = figure("What its decisions earn over those without it", "$ a year and unit")
    drawn.add_bar(
        x=[each.name for each in trial.value], y=[each.usd_per_unit_year for each in trial.value],
        text=[f"{each.gap_closed:.0%} of hindsight" if each.gap_closed is not None else "" for each in trial.value],
    )  # fmt: skip
    return drawn
