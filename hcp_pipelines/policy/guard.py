"""The guard: a wrong forecast costs a bounded amount instead of sleeping (or burning) for ever (DESIGN §6 f).

Two accounts a block, both in the block's wake cost c in $/MW.

*Ski rental*, spell by spell. Asleep, and the margins forgone since they turned positive add up to c: wake. Awake, and this
spell's losses add up to c: sleep. Source: OPTIMIZER findings, `A wrong Q can sleep for ever`.

*Trust*, over all spells: each spell may cost a wrong forecast another c. So the block's strikes are followed on paper beside
the plain rule, which needs no forecast: wake at a positive margin, sleep when a spell's losses add up to c. Once the strikes
are `DISTRUSTED_AT` wakes behind their best lead, the block goes by the plain rule, until on paper they have made up half of it;
then paper begins anew from the block as it is, so that both are the same for as long as strikes are trusted. Against the plain
rule strikes cost up to six wakes (`DISTRUSTED_AT`, and one to fall in with it) and four and a half for each recovery: what it
made up, by less than a wake too much, and again one to fall in.
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
_FORGONE, _LOST, _ON = (  # rows: in fact, on paper by the strikes, on paper by the plain rule
    [n for n, name in enumerate(ACCOUNTS) if name.endswith(kind)]
    for kind in ("forgone_usd_per_mw", "lost_usd_per_mw", "_on")
)
_BEHIND, _IS_DISTRUSTED = ACCOUNTS.index("behind_wakes"), ACCOUNTS.index("is_distrusted")
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
    """Accounts of a spell, and what follows from them: `[3, b]` in fact, on paper by the strikes, on paper by the plain rule."""

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
    on_paper = state.accounts[_ON]
    was_on = np.where(on_paper == UNKNOWN, share_on >= 0.5, on_paper > 0)
    forgone, lost = np.zeros((3, len(cost))), state.accounts[_LOST]
    forgone[:2] = state.accounts[_FORGONE]  # the plain rule forgoes nothing
    rental = _rent(forgone, lost, usd, np.vstack((share_on, was_on)), cost, gains, loses)
    is_on = np.vstack((np.where(was_on[0], may, must) | rental.wake[1], was_on[1] | gains)) & ~rental.sleep[1:]
    earned = np.where(is_on, usd, 0.0) - np.where(is_on & ~was_on, cost, 0.0)  # $/MW of the interval
    lead = np.divide(earned[0] - earned[1], cost, out=np.zeros_like(usd), where=has_account)
    behind = np.clip(state.accounts[_BEHIND] - lead, 0.0, BEHIND_MOST)
    was_distrusted = state.accounts[_IS_DISTRUSTED] > 0
    is_distrusted = has_account & np.where(was_distrusted, behind > TRUSTED_AT, behind >= DISTRUSTED_AT)

    told_must, told_may = np.where(is_distrusted, gains, must), is_distrusted | may
    wake, awake = rental.wake[0], ~rental.sleep[0]
    must, may = (told_must | wake) & awake, (told_may | wake) & awake

    recovers = was_distrusted & ~is_distrusted  # paper begins anew from the block as it is
    is_on[0] = np.where(recovers, np.where(share_on >= 0.5, may, must), is_on[0])
    for account in (rental.forgone, rental.lost):
        account[1] = np.where(recovers, account[0], account[1])
    accounts = np.empty_like(state.accounts)
    accounts[_FORGONE], accounts[_LOST] = rental.forgone[:2], rental.lost
    accounts[_ON], accounts[_BEHIND], accounts[_IS_DISTRUSTED] = is_on, behind, is_distrusted
    accounts[~np.isfinite(accounts)] = 0.0  # a margin that was none may not stay on account
    return GuardVerdict(GuardState(accounts, compiled.block_keys), must, may)


def _rent(
    forgone: Floats, lost: Floats, usd: Floats, share_on: Floats, cost: Floats, gains: Bools, loses: Bools
) -> _Rental:
    """Book a margin in $/MW for the share that was on or off: accounts of the other sign's spell are over."""
    forgone = np.where(gains, forgone + np.maximum(usd, 0.0) * (1 - share_on), 0.0)
    lost = np.where(loses, lost + np.maximum(-usd, 0.0) * share_on, 0.0)
    has_account = cost > 0
    return _Rental(forgone, lost, has_account & gains & (forgone >= cost), has_account & loses & (lost >= cost))
