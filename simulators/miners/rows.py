"""Rows that the whole cgminer family shares: the summary, the pools, chips and temperatures as strings. Pure; no dialect here."""

from typing import Any, Final

from simulators.miners.miner import Miner
from simulators.miners.report import Report
from simulators.work import SHARE_DIFFICULTY

Json = dict[str, Any]
_ROW: Final = 12


def summary_row(report: Report) -> Json:
    """`SUMMARY[0]` of bmminer and LUXminer, rates in GH/s."""
    return {
        "Elapsed": report.elapsed_s,
        "GHS 5s": round(report.rate_ghs, 2),
        "GHS av": round(report.rate_ghs, 2),
        "GHS 30m": round(report.rate_ghs, 2),
        "Found Blocks": 0,
        "Getworks": report.elapsed_s // 30,
        "Accepted": report.accepted,
        "Rejected": report.rejected,
        "Hardware Errors": report.hardware_errors,
        "Utility": round(60.0 * report.accepted / max(report.elapsed_s, 1), 2),
        "Discarded": 0,
        "Stale": 0,
        "Get Failures": 0,
        "Local Work": report.elapsed_s * 10,
        "Remote Failures": 0,
        "Network Blocks": report.elapsed_s // 600,
        "Total MH": round(report.total_mh, 4),
        "Work Utility": round(report.rate_ghs * 60.0 / 4.294967296, 2),
        "Difficulty Accepted": report.accepted * SHARE_DIFFICULTY,
        "Difficulty Rejected": report.rejected * SHARE_DIFFICULTY,
        "Difficulty Stale": 0.0,
        "Best Share": 0,
        "Device Hardware%": 0.0,
        "Device Rejected%": round(report.rejected_percent, 4),
        "Pool Rejected%": round(report.rejected_percent, 4),
        "Pool Stale%": 0.0,
        "Last getwork": report.now_s,
    }


def used_pools(miner: Miner) -> list[Any]:
    """Number and pool of each place that is used."""
    return [(number, pool) for number, pool in enumerate(miner.pools) if pool.url]


def pool_rows(miner: Miner, report: Report) -> list[Json]:
    """The pools as all of the cgminer family lists them; the first one works."""
    listed = used_pools(miner)
    first = listed[0][0] if listed else -1
    return [
        {
            "POOL": number,
            "URL": pool.url,
            "Status": "Alive" if report.has_work or not report.is_mining else "Dead",
            "Priority": number,
            "Quota": 1,
            "Long Poll": "N",
            "Getworks": report.elapsed_s // 30 if number == first else 0,
            "Accepted": report.accepted if number == first else 0,
            "Rejected": report.rejected if number == first else 0,
            "Discarded": 0,
            "Stale": 0,
            "Get Failures": 0,
            "Remote Failures": 0,
            "User": pool.user,
            "Last Share Time": "0:00:02" if number == first and report.rate_ghs > 0 else "0",
            "Diff": "131K",
            "Diff1 Shares": 0,
            "Difficulty Accepted": report.accepted * SHARE_DIFFICULTY if number == first else 0.0,
            "Difficulty Rejected": report.rejected * SHARE_DIFFICULTY if number == first else 0.0,
            "Has Stratum": True,
            "Stratum Active": number == first and report.has_work,
            "Stratum URL": pool.url.rpartition("/")[2] if number == first else "",
        }
        for number, pool in listed
    ]


def dashed(values: tuple[int, ...]) -> str:
    """Temperatures as bmminer strings them together.

    >>> dashed((50, 51))
    '50-51'
    """
    return "-".join(str(value) for value in values)


def chip_map(chips: int) -> str:
    """An `o` for each working chip, in groups."""
    groups, rest = divmod(chips, _ROW)
    return " " + " ".join(["o" * _ROW] * groups + (["o" * rest] if rest else []))
