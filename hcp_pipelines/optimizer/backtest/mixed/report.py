"""A mixed facility's report as rows of a table, lines, and one JSON object. Charts are in `page.py`."""

from collections.abc import Iterator

from hcp_pipelines.optimizer.backtest.account import worst_day, worst_intervals_usd
from hcp_pipelines.optimizer.backtest.mixed.ledger import KINDS
from hcp_pipelines.optimizer.backtest.mixed.run import MixedReport

COLUMNS = (
    "strategy", "net k$", *(f"{kind.replace('_', ' ')} k$" for kind in KINDS), "gap closed", "90 %", "of field's gap",
    "reserves", "peaks net", "peaks avoided", "deadlines missed", "calls met",
)  # fmt: skip


def rows_of(report: MixedReport) -> Iterator[tuple[object, ...]]:
    """A row a strategy."""
    for name, ledger in report.ledgers.items():
        gap, source, parts = report.gaps[name], report.sources[name], ledger.parts()
        yield (
            name,
            f"{ledger.total_usd / 1e3:,.0f}",
            *(f"{parts[kind] / 1e3:,.0f}" for kind in KINDS),
            _share(gap.share),
            "" if gap.low is None or gap.high is None else f"{gap.low:.2f} … {gap.high:.2f}",
            _share(report.field_gaps[name].share),
            _share(source.reserves_share),
            _share(source.peaks_share),
            f"{source.peaks_avoided} of {source.peaks}",
            f"{ledger.deadlines_missed} of {ledger.jobs}",
            f"{ledger.calls_met} of {ledger.calls}",
        )


def summary(report: MixedReport) -> Iterator[str]:
    """A line a strategy on its worst months."""
    for name, gap in report.gaps.items():
        if name in ("break_even", "oracle"):
            continue
        source = report.sources[name]
        line = f"{name}: worst month against break_even {gap.worst_month}: ${gap.worst_month_usd:,.0f}"
        if source.reserves_usd:
            line += f"; reserves' worst month {source.worst_reserves_month}: ${source.worst_reserves_usd:,.0f}"
        if report.world.response is not None:
            line += f"; the programme brought ${source.response_usd:,.0f} in all"
        yield line


def as_dict(report: MixedReport) -> dict[str, object]:
    """The report as `--json` prints it."""
    request = report.request
    return {
        "preset": "mixed-100mw",
        "window": {"from": request.start.isoformat(), "to": request.end.isoformat()},
        "point": request.sources.point,
        "known": request.known.value,
        "hashprice": request.hashprice_known,
        "relearn": request.relearn.value if request.relearn else None,
        "granularity_min": round(report.world.step_h * 60),
        "files": dict(report.files),
        "notes": list(report.notes),
        "strategies": {name: _strategy(report, name) for name in report.ledgers},
        "gap_closed": {name: _rounded(gap.share) for name, gap in report.gaps.items()},
    }


def _strategy(report: MixedReport, name: str) -> dict[str, object]:
    ledger, source = report.ledgers[name], report.sources[name]
    day, day_usd = worst_day(report.world.cases[0].starts_us, ledger.net_usd)
    return {
        "net_usd": round(ledger.total_usd, 2),
        "parts_usd": {kind: round(usd, 2) for kind, usd in ledger.parts().items()},
        "wakes_mw": round(ledger.wakes_mw, 2),
        "switches_per_device_day": round(ledger.switches_per_device_day, 4),
        "curtailed_mwh": round(ledger.curtailed_mwh, 2),
        "worst_1_percent_usd": round(worst_intervals_usd(ledger.net_usd), 2),
        "worst_day": {"date": day, "usd": round(day_usd, 2)},
        "deadlines_missed": ledger.deadlines_missed,
        "jobs": ledger.jobs,
        "gap": report.gaps[name].as_dict(),
        "field_gap": report.field_gaps[name].as_dict(),
        "reserves": {
            "usd": round(source.reserves_usd, 2),
            "share_of_oracle": _rounded(source.reserves_share),
            "worst_month": {"month": source.worst_reserves_month, "usd": round(source.worst_reserves_usd, 2)},
        },
        "peaks": {
            "net_usd": round(source.peaks_usd, 2),
            "share_of_charge": _rounded(source.peaks_share),
            "avoided": source.peaks_avoided,
            "peaks": source.peaks,
        },
        "response": {
            "usd": round(source.response_usd, 2),
            "share_of_oracle": _rounded(source.response_share),
            "calls_met": ledger.calls_met,
            "calls": ledger.calls,
        },
    }


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
