"""The pool's figures as documents, in the shape of Braiins Pool's public API. HTTP is in `api`.

Source: Braiins Academy, Pool Monitoring (paths, members, units: Gh/s, BTC as text, Unix seconds; `shares_…` are sums of
difficulty). `valid_`, `stale_`, `rejected_shares` (counts), `pool_fee`, pages and `workers_daily` are ours, as other pools have
them. Nobody here has monitoring switched off (`dis`), mines with Braiins OS or was referred; nothing is ever paid out.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from simulators.clock import Clock
from simulators.pool.config import PoolConfig
from simulators.pool.ledger import DAY_S, DIFFICULTY, REJECTED, STALE, VALID, Figures, SiteLedger
from simulators.pool.names import worker_name
from simulators.pool.outside import OutsideWorkers, Worker
from simulators.pool.payouts import Payouts
from simulators.pool.work import HASHES_PER_DIFFICULTY

UNIT: Final = "Gh/s"
SPANS: Final = {"5m": 300, "60m": 3600, "24h": 86_400}
OFF_AFTER_S: Final = 900.0  # without a share
LOW_SHARE: Final = 0.5  # of its own day's mean
SHOWN_BLOCKS: Final = 15
ROUND_S: Final = 600  # what `estimated_reward` is of: about a block's time

Document = dict[str, Any]


class Statistics:
    """Reads ledgers; changes nothing."""

    def __init__(
        self,
        config: PoolConfig,
        ledgers: dict[str, SiteLedger],
        outside: OutsideWorkers,
        payouts: Payouts,
        clock: Clock,
    ) -> None:
        self._config = config
        self._ledgers = ledgers
        self._outside = outside
        self._payouts = payouts
        self._clock = clock

    @property
    def workers_total(self) -> int:
        """All workers that the account has."""
        return sum(len(one.slots) for one in self._ledgers.values()) + len(self._own())

    def pool(self) -> Document:
        """The pool itself: luck, fee, its newest blocks."""
        now_s = self._clock.now_s()
        found = self._payouts.found(now_s, SHOWN_BLOCKS)
        rates = self._rates(self._fleet(), self._outside.workers)
        return {
            **{f"luck_b{number}": f"{luck:.4f}" for number, luck in found.luck.items()},
            "hash_rate_unit": UNIT,
            **{f"pool_{span}_hash_rate": _gh(rate) for span, rate in rates.items()},
            "pool_active_workers": self.workers_total - len(self._own()) + len(self._outside.workers),
            "pool_fee": f"{self._config.fee_fraction:.4f}",
            "payout": "FPPS",
            "fpps_rate": f"{self._payouts.satoshi_per_difficulty(now_s) / 1e8:.18f}",
            "update_ts": int(now_s),
            "extensions": ["pages", "rate_limit_headers", "workers_daily"],
            "blocks": {
                str(block.height): {
                    "date_found": int(block.timestamp_s),
                    "state": "confirmed",
                    "value": f"{(block.subsidy_sat + block.fees_sat) / 1e8:.8f}",
                }
                for block in found.blocks
            },
        }

    def profile(self) -> Document:
        """The account."""
        now_s = self._clock.now_s()
        today = int(now_s // DAY_S)
        ledgers = list(self._ledgers.values())
        fleet, (yesterday,) = self._fleet(), self.hash_rate_daily(range(today - 1, today))
        rates = self._rates(fleet, self._own())
        earned = f"{self._payouts.all_time_btc(ledgers):.8f}"
        return {
            "hash_rate_unit": UNIT,
            **{f"hash_rate_{span}": _gh(rate) for span, rate in rates.items()},
            "hash_rate_yesterday": yesterday["hash_rate_24h"],
            **{f"shares_{span}": shares for span, shares in self._shares(fleet).items()},
            "shares_yesterday": yesterday["total_shares"],
            **{f"{state}_workers": count for state, count in self._states(fleet).items()},
            "today_reward": f"{self._payouts.earned_btc(ledgers, today):.8f}",
            "estimated_reward": f"{self._payouts.estimated_btc(rates['5m'], now_s, ROUND_S):.8f}",
            "all_time_reward": earned,
            "current_balance": earned,
        }

    def payouts(self) -> Document:
        """What was paid out: nothing yet."""
        return {"onchain": [], "lightning": []}

    def rewards(self, days: range) -> Document:
        """What each day has earned; the running one is not told yet."""
        ledgers = list(self._ledgers.values())
        told = []
        for day in days:
            earned = f"{self._payouts.earned_btc(ledgers, day):.8f}"
            told.append(
                {
                    "date": day * DAY_S,
                    "total_reward": earned,
                    "mining_reward": earned,
                    **dict.fromkeys(("bos_plus_reward", "referral_bonus", "referral_reward"), f"{0:.8f}"),
                    "calculation_date": (day + 1) * DAY_S,
                }
            )
        return {"daily_rewards": told}

    def hash_rate_daily(self, days: range) -> list[Document]:
        """Mean hashrate of each day."""
        told = []
        for day in days:
            shares = (
                sum(int(one.day(day, 0, len(one.slots))[VALID].sum()) for one in self._ledgers.values()) * DIFFICULTY
            )
            rate = shares * HASHES_PER_DIFFICULTY / DAY_S
            told.append(
                {"date": day * DAY_S, "hash_rate_unit": UNIT, "hash_rate_24h": _gh(rate), "total_shares": int(shares)}
            )
        return told

    def workers(self, first: int, end: int) -> Document:
        """A page of workers as they stand: simulated miners by site and slot, then those that really hash."""
        found = {}
        for name, ledger, low, high in self._parts(first, end):
            figures = ledger.figures(low, high)
            states = _states_of(figures, ledger.at_s)
            for number, slot in enumerate(ledger.slots[low:high].tolist()):
                found[worker_name(self._config.account, name, slot)] = _miner(figures, number, states[number])
        return found | {one.name: self._outsider(one) for one in self._outsiders(first, end)}

    def workers_daily(self, day: int, first: int, end: int) -> Document:
        """A page of simulated miners: what each was credited on a UTC day; nothing of sites that were not counted all day."""
        found = {}
        for name, ledger, low, high in self._parts(first, end):
            if not ledger.knows(day):
                continue
            counts = ledger.day(day, low, high)
            for number, slot in enumerate(ledger.slots[low:high].tolist()):
                valid = int(counts[VALID, number])
                found[worker_name(self._config.account, name, slot)] = {
                    "hash_rate_unit": UNIT,
                    "hash_rate_24h": _gh(valid * DIFFICULTY * HASHES_PER_DIFFICULTY / DAY_S),
                    "total_shares": int(valid * DIFFICULTY),
                    "valid_shares": valid,
                    "stale_shares": int(counts[STALE, number]),
                    "rejected_shares": int(counts[REJECTED, number]),
                }
        return found

    def counted_until_s(self) -> float:
        """Until when all shares of all sites are counted."""
        return min((one.at_s for one in self._ledgers.values()), default=self._clock.now_s())

    def _parts(self, first: int, end: int) -> Iterator[tuple[str, SiteLedger, int, int]]:
        """Which of each site's miners a page has."""
        for name, ledger in self._ledgers.items():
            low, high = max(first, 0), min(end, len(ledger.slots))
            if low < high:
                yield name, ledger, low, high
            first, end = first - len(ledger.slots), end - len(ledger.slots)

    def _outsiders(self, first: int, end: int) -> list[Worker]:
        before = sum(len(one.slots) for one in self._ledgers.values())
        known = self._own()
        return [known[name] for name in sorted(known)[max(first - before, 0) : max(end - before, 0)]]

    def _outsider(self, worker: Worker) -> Document:
        now_s = self._clock.real_s()
        return {
            "state": self._outsiders_state(worker),
            "last_share": int(worker.last_share_s or 0),
            "hash_rate_unit": UNIT,
            **{f"hash_rate_{span}": _gh(worker.hashes_per_s(seconds, now_s)) for span, seconds in SPANS.items()},
            **{f"shares_{span}": worker.difficulty_of(seconds, now_s) for span, seconds in SPANS.items()},
            "total_shares": worker.difficulty_sum,
            "claimed_hash_rate": _gh(worker.claimed_hashes_per_s),
            "valid_shares": worker.valid,
            "stale_shares": worker.stale,
            "rejected_shares": worker.rejected,
        }

    def _own(self) -> dict[str, Worker]:
        """Those of the account that really hash."""
        return self._outside.of(self._config.account)

    def _fleet(self) -> list[tuple[Figures, float]]:
        """Of each site's miners, and until when they are counted."""
        return [(one.figures(0, len(one.slots)), one.at_s) for one in self._ledgers.values()]

    def _rates(self, fleet: list[tuple[Figures, float]], hashing: dict[str, Worker]) -> dict[str, float]:
        """Hashes a second of the simulated miners and some others."""
        now_s = self._clock.real_s()
        return {
            span: sum(float(figures.hashes_per_s[span].sum()) for figures, _ in fleet)
            + sum(one.hashes_per_s(seconds, now_s) for one in hashing.values())
            for span, seconds in SPANS.items()
        }

    def _shares(self, fleet: list[tuple[Figures, float]]) -> dict[str, float]:
        """The account's valid shares, as sums of difficulty."""
        now_s, own = self._clock.real_s(), self._own().values()
        return {
            span: sum(int(figures.valid[span].sum(dtype=np.int64)) for figures, _ in fleet) * DIFFICULTY
            + sum(one.difficulty_of(seconds, now_s) for one in own)
            for span, seconds in SPANS.items()
        }

    def _states(self, fleet: list[tuple[Figures, float]]) -> dict[str, int]:
        """How many of the account's workers are in each state."""
        found = Counter({"ok": 0, "low": 0, "off": 0, "dis": 0})
        for figures, at_s in fleet:
            found.update(_states_of(figures, at_s))
        found.update(self._outsiders_state(one) for one in self._own().values())
        return dict(found)

    def _outsiders_state(self, worker: Worker) -> str:
        last_s = worker.last_share_s
        return "ok" if last_s is not None and self._clock.real_s() - last_s < OFF_AFTER_S else "off"


def _states_of(figures: Figures, at_s: float) -> list[str]:
    """The state of each miner."""
    is_off = at_s - figures.last_share_s >= OFF_AFTER_S
    is_low = figures.hashes_per_s["5m"] < LOW_SHARE * figures.hashes_per_s["24h"]
    return [str(state) for state in np.select([is_off, is_low], ["off", "low"], "ok").tolist()]


def _miner(figures: Figures, number: int, state: str) -> Document:
    valid, stale, rejected = (int(figures.shares[kind, number]) for kind in (VALID, STALE, REJECTED))
    return {
        "state": state,
        "last_share": int(figures.last_share_s[number]),
        "hash_rate_unit": UNIT,
        **{f"hash_rate_{span}": _gh(float(rate[number])) for span, rate in figures.hashes_per_s.items()},
        **{f"shares_{span}": int(int(shares[number]) * DIFFICULTY) for span, shares in figures.valid.items()},
        "valid_shares": valid,
        "stale_shares": stale,
        "rejected_shares": rejected,
    }


def _gh(hashes_per_s: float) -> float:
    return round(hashes_per_s / 1e9, 3)
