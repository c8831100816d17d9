"""Market: real-time and day-ahead prices of an operating day by point, reserves, how the day lies in the weeks before."""

from datetime import date

import plotly.graph_objects as go
import polars as pl

from hcp_pipelines.orchestration.reports.drawn import Ask, Drawn, cells, figure, lines

NEWEST = "select max(operating_day) from lake.marts.fct_prices where market = 'real_time'"
POINTS = """
    select point, avg(price_usd_per_mwh) filter (market = 'real_time') as real_time,
           min(price_usd_per_mwh) filter (market = 'real_time') as lowest,
           max(price_usd_per_mwh) filter (market = 'real_time') as highest,
           count(*) filter (market = 'real_time' and price_usd_per_mwh < 0) / 4 as hours_below_zero,
           avg(price_usd_per_mwh) filter (market = 'day_ahead') as day_ahead
    from lake.marts.fct_prices where operating_day = ? and market <> 'ancillary' group by point order by point"""
PRICES = """
    select market, point, start_at, price_usd_per_mwh from lake.marts.fct_prices
    where operating_day = ? order by market, point, start_at"""
WEEKS = """
    select operating_day, hour(timezone('America/Chicago', start_at)) as local_hour, avg(price_usd_per_mwh) as price
    from lake.marts.fct_prices where market = 'real_time' and operating_day between ?::date - 20 and ? and point = ?
    group by all order by all"""
ACCURACY = """
    select settlement_point, method, horizon, mae_usd_per_mwh, coverage_80 from lake.marts.fct_forecast_accuracy
    where day = (select max(day) from lake.marts.fct_forecast_accuracy where day <= ?) and horizon = 'all' order by all"""


def draw(ask: Ask, day: date) -> Drawn:
    """The report of an operating day."""
    points, prices = ask(POINTS, [day]), ask(PRICES, [day])
    sections = [("Prices", [_prices(prices), _durations(prices)])]
    if len(points):
        point = points["point"][0]
        sections.append((f"Three weeks at {point}", [_weeks(ask(WEEKS, [day, day, point]))]))
    reserves = prices.filter(pl.col("market") == "ancillary")
    if len(reserves):
        drawn = lines(
            figure("Reserves, day-ahead", "$/MW and hour"), reserves, "point", "start_at", "price_usd_per_mwh"
        )
        sections.append(("Reserves", [drawn]))
    return Drawn(f"Market, {day}", _notes(ask(ACCURACY, [day])), points.columns, cells(points), sections)


def _notes(accuracy: pl.DataFrame) -> list[str]:
    return [
        f"Forecasts of {point} by {method}: {mae:.2f} $/MWh mean error of the median, "
        f"{coverage:.0%} of prices in the 80 % interval."
        for point, method, _, mae, coverage in accuracy.iter_rows()
        if mae is not None and coverage is not None
    ]


def _prices(prices: pl.DataFrame) -> go.Figure:
    drawn = figure("Real-time (lines) and day-ahead (steps)", "$/MWh")
    for market, how in (("real_time", {}), ("day_ahead", {"line": {"dash": "dot", "shape": "hv"}})):
        part = prices.filter(pl.col("market") == market).with_columns(pl.col("point") + f", {market.replace('_', '-')}")
        lines(drawn, part, "point", "start_at", "price_usd_per_mwh", **how)
    return drawn


def _durations(prices: pl.DataFrame) -> go.Figure:
    real_time = prices.filter(pl.col("market") == "real_time").sort(
        "point", "price_usd_per_mwh", descending=[False, True]
    )
    hours = real_time.with_columns(hours=pl.int_range(1, pl.len() + 1).over("point") / 4)
    return lines(figure("Hours at or above a price", "$/MWh", x="hours"), hours, "point", "hours", "price_usd_per_mwh")


def _weeks(weeks: pl.DataFrame) -> go.Figure:
    wide = weeks.pivot("local_hour", index="operating_day", values="price", sort_columns=True)
    hours = [name for name in wide.columns if name != "operating_day"]
    drawn = figure("Real-time price by day and Central hour, $/MWh", "", x="hour")
    drawn.add_heatmap(
        x=hours,
        y=[str(day) for day in wide["operating_day"]],
        z=wide.select(hours).rows(),
        colorscale="RdBu",
        reversescale=True,
        zmid=0,
    )
    drawn.update_yaxes(type="category")
    return drawn
