"""Fleet health: how much of each group was in use on a UTC day, what refused or failed, whose hashrate its power can't make."""

from datetime import date

import plotly.graph_objects as go
import polars as pl

from hcp_pipelines.orchestration.reports.drawn import Ask, Drawn, cells, figure, lines

NEWEST = """
    select max(day) from (
        select max(day) as day from lake.marts.fct_utilisation
        union all select max(day) from lake.marts.fct_device_reliability)"""
GROUPS = """
    with used as (
        select facility_id, group_id, avg(power_fraction) as power_fraction, avg(hashrate_fraction) as hashrate_fraction,
               max(hottest_celsius) as hottest_celsius, max(devices - devices_telling) as most_silent
        from lake.marts.fct_utilisation where day = ? group by all),
    obeyed as (
        select facility_id, group_id, sum(devices_commanded)::bigint as commanded, sum(devices_refused)::bigint as refused,
               sum(devices_failed)::bigint as failed, sum(devices_found_otherwise)::bigint as found_otherwise
        from lake.marts.fct_device_reliability where day = ? group by all)
    select g.facility_id || '/' || g.group_id as "group", g.model, g.firmware, g.devices, power_fraction, hashrate_fraction,
           hottest_celsius, most_silent, commanded, refused, failed, found_otherwise
    from lake.marts.dim_device_groups g
    left join used using (facility_id, group_id) left join obeyed using (facility_id, group_id)
    where g.is_current order by 1"""
MINUTES = """
    select facility_id || '/' || group_id as "group", time_bucket(interval '5 minutes', minute_at) as start_at,
           avg(power_fraction) as power_fraction, max(hottest_celsius) as hottest_celsius
    from lake.marts.fct_utilisation where day = ? group by all order by all"""
REPORTED = """
    select facility_id || '/' || group_id as "group", slot, median(reported_fraction) as reported_fraction
    from lake.marts.fct_device_hashrate where cast(timezone('UTC', hour_at) as date) = ? group by all order by all"""
LIES_ABOVE, IDLES_BELOW = 1.05, 0.9


def draw(ask: Ask, day: date) -> Drawn:
    """The report of a UTC day."""
    groups, minutes, reported = ask(GROUPS, [day, day]), ask(MINUTES, [day]), ask(REPORTED, [day])
    used = lines(figure("Power over full power", "fraction"), minutes, "group", "start_at", "power_fraction")
    hot = lines(figure("Hottest device", "°C"), minutes, "group", "start_at", "hottest_celsius")
    sections = [("Use and heat", [used, hot])]
    if len(reported):
        sections.append(("Hashrate", [_hashrate(reported)]))
    return Drawn(f"Fleet health, {day}", _notes(groups, reported), groups.columns, cells(groups), sections)


def _notes(groups: pl.DataFrame, reported: pl.DataFrame) -> list[str]:
    over = reported.filter(pl.col("reported_fraction") > LIES_ABOVE)
    under = reported.filter(pl.col("reported_fraction") < IDLES_BELOW)
    notes = [f"{groups['devices'].sum():,} devices in {len(groups)} groups."]
    if len(reported):
        notes.append(
            f"Of {len(reported):,} miners with steady power {len(over):,} report more than {LIES_ABOVE:g} times what it makes, "
            f"{len(under):,} less than {IDLES_BELOW:g}."
        )
    if len(over):
        worst = over.sort("reported_fraction", descending=True).head(10)
        notes.append(
            "The highest: " + ", ".join(f"{g}/{slot} {share:.2f}" for g, slot, share in worst.iter_rows()) + "."
        )
    return notes


def _hashrate(reported: pl.DataFrame) -> go.Figure:
    drawn = figure("Reported over expected hashrate, by slot (median of the day)", "fraction", x="slot")
    for (name,), part in reported.group_by("group", maintain_order=True):
        drawn.add_scattergl(
            x=part["slot"].to_list(),
            y=part["reported_fraction"].to_list(),
            name=str(name),
            mode="markers",
            marker={"size": 4},
        )
    drawn.add_hrect(y0=IDLES_BELOW, y1=LIES_ABOVE, opacity=0.1, fillcolor="green", line_width=0)
    return drawn
