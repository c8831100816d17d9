"""The guard: a wrong forecast costs a bounded amount instead of sleeping (or burning) for ever (DESIGN §6 f).

Two accounts a block, both in the block's wake cost c in $/MW.

*Ski rental*, spell by spell. Asleep, and the margins forgone since they turned positive add up to c: wake. Awake, and this
spell's losses add up to c: sleep. Source: OPTIMIZER findings, `A wrong Q can sleep for ever`.

*Trust*, over all spells: each spell may cost a wrong forecast another c. So the block's strikes are followed on paper beside
the plain rule, which needs no forecast: wake at a positive margin, sleep when a spell's losses add up to c. Once the strikes
are `DISTRUSTED_AT` wakes behind their best lead, the block goes by the plain rule, until on paper they have made up half of it.
What they may cost against the plain rule is `DISTRUSTED_AT` wakes, and half of that each time that they recover and fail again.
"""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.policy.arrays import Bools, CompiledPolicy, Floats

DISTRUSTED_AT = 5.0  # wakes; chosen on 2024-01 to 2024-11 (docs/decisions.md)
TRUSTED_AT = 0.5 * DISTRUSTED_AT
BEHIND_MOST = 2.0 * DISTRUSTED_AT  # what lies further back than this is forgotten: a mended forecast is believed again
UNKNOWN = -1.0  # on paper, before the first price
ACCOUNTS = (
    "forgone_usd_per_mw", "lost_usd_per_mw",
    "paper_on", "paper_forgone_usd_per_mw", "paper_lost_usd_per_mw",
    "plain_on", "plain_lost_usd_per_mw", "behind_wakes", "is_distrusted",
)  # fmt: skip
EMPTY = np.array([UNKNOWN if name in ("paper_on", "plain_on") else 0.0 for name in ACCOUNTS])


@dataclass(frozen=True)
class GuardState:
    """Accounts `[len(ACCOUNTS), b]` of blocks, and whose they are."""

    accounts: Floats
    block_keys: tuple[str, ...]

    @classmethod
    def empty(cls, compiled: CompiledPolicy) -> "GuardState":
        """Nothing on account."""
        return cls(np.tile(EMPTY[:, None], len(compiled.block_keys)), compiled.block_keys)

    def __getitem__(self, name: str) -> Floats:
        """One account of every block."""
        account: Floats = self.accounts[ACCOUNTS.index(name)]
        return account

    def fits(self, compiled: CompiledPolicy) -> bool:
        """Whether the accounts are those of a policy's blocks, in its order."""
        return self.block_keys == compiled.block_keys

    def carried_to(self, compiled: CompiledPolicy) -> "GuardState":
        """The accounts in the order of another policy's blocks: a new merit order must not swap them."""
        if self.fits(compiled):
            return self
        place = {key: n for n, key in enumerate(self.block_keys)}
        state = GuardState.empty(compiled)
        for n, key in enumerate(compiled.block_keys):
            if key in place:
                state.accounts[:, n] = self.accounts[:, place[key]]
        return state


@dataclass(frozen=True)
class GuardVerdict:
    """What the guard asks for, per block: whether it must be on, and whether it may stay on."""

    state: GuardState
    must: Bools
    may: Bools


@dataclass(frozen=True)
class _Rental:
    """Accounts of a spell, and what follows from them."""

    forgone: Floats
    lost: Floats
    wake: Bools
    sleep: Bools


def step(
    compiled: CompiledPolicy,
    state: GuardState,
    margin_usd_per_mwh: Floats,
    share_on: Floats,
    elapsed_h: float,
    must: Bools,
    may: Bools,
) -> GuardVerdict:
    """Book `elapsed_h` hours of margin on each block's accounts, for the share of it that was on or off, and on paper.

    `must` and `may`: what the strikes say, to a block that is asleep and to one that is on.
    """
    cost, usd = compiled.wake_cost_usd_per_mw, margin_usd_per_mwh * elapsed_h
    gains, loses, has_account = margin_usd_per_mwh > 0, margin_usd_per_mwh < 0, cost > 0
    forgone, lost, paper_on, paper_forgone, paper_lost, plain_on, plain_lost, behind, distrusted = state.accounts
    paper_was, plain_was = (np.where(on == UNKNOWN, share_on >= 0.5, on > 0) for on in (paper_on, plain_on))

    paper = _rent(paper_forgone, paper_lost, usd, paper_was.astype(np.float64), cost, gains, loses)
    paper_is = (np.where(paper_was, may, must) | paper.wake) & ~paper.sleep
    plain = _rent(np.zeros_like(usd), plain_lost, usd, plain_was.astype(np.float64), cost, gains, loses)
    plain_is = (plain_was | gains) & ~plain.sleep
    lead = _earned(usd, cost, paper_is, paper_was) - _earned(usd, cost, plain_is, plain_was)
    behind = np.clip(behind - np.divide(lead, cost, out=np.zeros_like(usd), where=has_account), 0.0, BEHIND_MOST)
    is_distrusted = has_account & np.where(distrusted > 0, behind > TRUSTED_AT, behind >= DISTRUSTED_AT)

    real = _rent(forgone, lost, usd, share_on, cost, gains, loses)
    told_must, told_may = np.where(is_distrusted, gains, must), is_distrusted | may
    accounts = np.array([
        real.forgone, real.lost, paper_is, paper.forgone, paper.lost, plain_is, plain.lost, behind, is_distrusted,
    ])  # fmt: skip
    accounts = np.nan_to_num(
        accounts, nan=0.0, posinf=0.0, neginf=0.0
    )  # a margin that was none may not stay on account
    return GuardVerdict(
        GuardState(accounts, compiled.block_keys),
        (told_must | real.wake) & ~real.sleep,
        (told_may | real.wake) & ~real.sleep,
    )


def _earned(usd: Floats, cost: Floats, is_on: Bools, was_on: Bools) -> Floats:
    """$/MW of an interval on paper."""
    return np.where(is_on, usd, 0.0) - np.where(is_on & ~was_on, cost, 0.0)


def _rent(
    forgone: Floats, lost: Floats, usd: Floats, share_on: Floats, cost: Floats, gains: Bools, loses: Bools
) -> _Rental:
    """Book a margin in $/MW for the share that was on or off: accounts of the other sign's spell are over."""
    forgone = np.where(gains, forgone + np.maximum(usd, 0.0) * (1 - share_on), 0.0)
    lost = np.where(loses, lost + np.maximum(-usd, 0.0) * share_on, 0.0)
    has_account = cost > 0
    return _Rental(forgone, lost, has_account & gains & (forgone >= cost), has_account & loses & (lost >= cost))
