"""Daily operations: what each facility earned and drew on an operating day, why load was reduced, what was owed to the grid."""

from datetime import date

import plotly.graph_objects as go
import polars as pl

from hcp_pipelines.economics.settlement import KINDS
from hcp_pipelines.orchestration.reports.drawn import Ask, Drawn, cells, clock, figure, lines

NEWEST = "select max(operating_day) from lake.marts.fct_facility_days"
FACILITIES = """
    with reduced as (
        select facility_id, operating_day, count(*) as reductions, sum(mw) as reduced_mw
        from lake.marts.fct_curtailment group by all),
    owed as (
        select facility_id, operating_day, count(*) filter (where is_met) || ' of ' || count(*) as obligations_met
        from lake.marts.fct_demand_response group by all)
    select facility_id, net_usd, settled_usd, estimated_hours, hours, energy_mwh, reductions, reduced_mw, obligations_met
    from lake.marts.fct_facility_days
    left join reduced using (facility_id, operating_day) left join owed using (facility_id, operating_day)
    where operating_day = ? order by facility_id"""
MINUTES = """
    select facility_id, start_at, mw, price_usd_per_mwh, is_estimated,
           sum(net_usd) over (partition by facility_id order by start_at) as net_usd
    from lake.marts.fct_facility_5min where operating_day = ? order by facility_id, start_at"""
BY_KIND = "select * from lake.marts.fct_facility_days where operating_day = ? and settled_usd is not null order by facility_id"
REDUCTIONS = """
    select reduced_at, facility_id, group_id, cause, reason, mw, time_to_meter_s, decision_price_usd_per_mwh
    from lake.marts.fct_curtailment where operating_day = ? order by reduced_at"""


def draw(ask: Ask, day: date) -> Drawn:
    """The report of an operating day."""
    facilities, minutes, reductions = ask(FACILITIES, [day]), ask(MINUTES, [day]), ask(REDUCTIONS, [day])
    money = lines(figure("Earned since the day began", "$"), minutes, "facility_id", "start_at", "net_usd")
    load = lines(
        figure("Load, and the price at each facility's point", "MW", second="$/MWh"),
        minutes,
        "facility_id",
        "start_at",
        "mw",
    )
    priced = minutes.with_columns(pl.col("facility_id") + ", price")
    lines(load, priced, "facility_id", "start_at", "price_usd_per_mwh", yaxis="y2", line={"dash": "dot", "width": 1})
    sections = [("Money", [money, *_kinds(ask(BY_KIND, [day]))]), ("Load and price", [load])]
    if len(reductions):
        sections.append(("Reductions of load", [_reductions(reductions)]))
    return Drawn(
        f"Daily operations, {day}", _notes(facilities, reductions), facilities.columns, cells(facilities), sections
    )


def _notes(facilities: pl.DataFrame, reductions: pl.DataFrame) -> list[str]:
    net, estimated = facilities["net_usd"].sum(), facilities["estimated_hours"].sum()
    said = f"{net:,.2f} $ net at {len(facilities)} facilities"
    notes = [
        f"{said}; {estimated:.1f} facility-hours of it are an estimate at the platform's own scores."
        if estimated
        else f"{said}, all settled."
    ]
    if len(reductions):
        last = reductions.tail(1).row(0, named=True)
        notes.append(
            f"{len(reductions)} reductions of load, the last at {clock(last['reduced_at'])} at {last['facility_id']}: "
            f"{last['reason']}."
        )
    return notes


def _kinds(settled: pl.DataFrame) -> list[go.Figure]:
    if settled.is_empty():
        return []
    bars = figure("Settled dollars by kind; costs are below zero", "$", barmode="relative")
    for kind in KINDS:
        values = settled[f"{kind}_usd"].cast(pl.Float64)
        if (values != 0).any():
            bars.add_bar(x=settled["facility_id"].to_list(), y=values.to_list(), name=kind)
    return [bars]


def _reductions(frame: pl.DataFrame) -> go.Figure:
    dots = figure("Each reduction: how much, and seconds until the devices' power had shown it", "MW")
    for (cause,), part in frame.group_by("cause", maintain_order=True):
        told = [
            f"{r['facility_id']}/{r['group_id']} {r['reason']}, {r['time_to_meter_s']} s"
            for r in part.iter_rows(named=True)
        ]
        dots.add_scatter(
            x=part["reduced_at"].to_list(), y=part["mw"].to_list(), name=str(cause), mode="markers", hovertext=told
        )
    return dots
