"""A report as rows of a table and as one JSON object (DESIGN §10). Charts are in `page.py`."""

from collections.abc import Iterator

from hcp_pipelines.optimizer.backtest.account import GapClosed, mean_interval
from hcp_pipelines.optimizer.backtest.run import Report, Result

COLUMNS = (
    "J/TH", "strategy", "net $", "revenue $", "energy $", "switching $", "wakes", "gap closed", "90 %",
    "$/MW-year over break_even", "MWh off", "worst 1 % $", "worst day",
)  # fmt: skip


def title(report: Report) -> str:
    """Point, window, and what was known of what, in one line."""
    request, minutes = report.request, report.recorded.prices.step_minutes
    return (
        f"{request.sources.point}, {request.start:%Y-%m-%dT%H:%MZ} to {request.end:%Y-%m-%dT%H:%MZ}, {minutes}-minute prices, "
        f"known {request.known.value}, hashprice {request.hashprice_known}: $ per MW"
    )


def rows_of(report: Report) -> Iterator[tuple[object, ...]]:
    """A row per efficiency and strategy, the dollars whole."""
    for efficiency, result in report.results.items():
        for name, account in result.accounts.items():
            gap = result.gaps[name]
            yield (
                f"{efficiency:g}",
                name,
                f"{account.total_usd:,.0f}",
                f"{account.revenue_usd:,.0f}",
                f"{account.energy_usd:,.0f}",
                f"{account.switching_usd:,.0f}",
                account.wakes,
                "" if gap.share is None else f"{gap.share:.2f}",
                _interval(gap),
                f"{gap.gain_usd_per_mw_year:,.0f}",
                f"{account.curtailed_mwh:,.0f}",
                f"{account.worst_intervals_usd:,.0f}",
                f"{account.worst_day}: {account.worst_day_usd:,.0f}",
            )


def as_dict(report: Report) -> dict[str, object]:
    """The report as `--json` prints it; with one efficiency its results stand at the top level too."""
    request, recorded = report.request, report.recorded
    by_efficiency = {f"{e:g}": _result(result) for e, result in report.results.items()}
    head: dict[str, object] = {
        "window": {"from": request.start.isoformat(), "to": request.end.isoformat()},
        "point": request.sources.point,
        "known": request.known.value,
        "hashprice": request.hashprice_known,
        "relearn": request.relearn.value if request.relearn else None,
        "min_up_minutes": request.min_up_minutes,
        "min_down_minutes": request.min_down_minutes,
        "granularity_min": recorded.prices.step_minutes,
        "files": recorded.files,
        "notes": list(report.notes),
        "efficiencies": by_efficiency,
        "mean_gap_closed": mean_gap_closed(report),
        "mean_interval_90": {name: _mean_interval(report, name, "break_even") for name in _names(report)},
        "mean_over_hysteresis_90": {
            name: _mean_interval(report, name, "hysteresis")
            for name in _names(report)
            if "hysteresis" in _names(report)
        },
    }
    return head | (next(iter(by_efficiency.values())) if len(by_efficiency) == 1 else {})


def mean_gap_closed(report: Report) -> dict[str, float | None]:
    """By strategy the mean share over the efficiencies; None where one of them has no gap to speak of."""
    means: dict[str, float | None] = {}
    for name in _names(report):
        shares = [result.gaps[name].share for result in report.results.values()]
        known = [share for share in shares if share is not None]
        means[name] = round(sum(known) / len(known), 4) if len(known) == len(shares) else None
    return means


def summary(report: Report) -> Iterator[str]:
    """A line a strategy: its mean share over the efficiencies, and how far that is above hysteresis."""
    means = mean_gap_closed(report)
    for name, mean in means.items():
        if mean is None or name in ("break_even", "oracle"):
            continue
        line = f"{name}: mean gap closed {mean:.3f}{_said(_mean_interval(report, name, 'break_even'))}"
        base = means.get("hysteresis")
        if base is not None and name == "mpc":
            line += f", {mean - base:+.3f}{_said(_mean_interval(report, name, 'hysteresis'))} over hysteresis"
        yield line


def _names(report: Report) -> list[str]:
    return list(next(iter(report.results.values())).gaps)


def _mean_interval(report: Report, name: str, other: str) -> list[float | None]:
    """Of a mean share; none where one of the efficiencies has no gap to speak of, as its mean has none."""
    if any(result.gaps[name].share is None for result in report.results.values()):
        return [None, None]
    low, high = mean_interval([(r.case, r.accounts) for r in report.results.values()], name, other)
    return [None if end is None else round(end, 4) for end in (low, high)]


def _said(interval: list[float | None]) -> str:
    low, high = interval
    return "" if low is None or high is None else f" ({low:.2f} … {high:.2f})"


def _result(result: Result) -> dict[str, object]:
    return {
        "strategies": {name: account.as_dict() for name, account in result.accounts.items()},
        "gap_closed": {name: None if gap.share is None else round(gap.share, 4) for name, gap in result.gaps.items()},
        "gap": {name: gap.as_dict() for name, gap in result.gaps.items()},
    }


def _interval(gap: GapClosed) -> str:
    return "" if gap.low is None or gap.high is None else f"{gap.low:.2f} … {gap.high:.2f}"
