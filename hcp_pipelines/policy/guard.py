"""The guard: a wrong forecast costs a bounded amount instead of sleeping (or burning) for ever (DESIGN §6 f).

Ski rental per block, with the block's wake cost c in $/MW as the price of the skis. Asleep, and the margins forgone
since they turned positive add up to c: wake. Awake, and this spell's losses add up to c: sleep.
Source: OPTIMIZER findings, `A wrong Q can sleep for ever`.
"""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.policy.arrays import Bools, CompiledPolicy, Floats


@dataclass(frozen=True)
class GuardState:
    """Accounts per block, $/MW, and whose they are."""

    forgone_usd_per_mw: Floats
    lost_usd_per_mw: Floats
    block_keys: tuple[str, ...]

    @classmethod
    def empty(cls, compiled: CompiledPolicy) -> "GuardState":
        """Nothing on account."""
        zeros = np.zeros(len(compiled.block_keys))
        return cls(zeros, zeros.copy(), compiled.block_keys)

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
                state.forgone_usd_per_mw[n] = self.forgone_usd_per_mw[place[key]]
                state.lost_usd_per_mw[n] = self.lost_usd_per_mw[place[key]]
        return state


@dataclass(frozen=True)
class GuardVerdict:
    """What the guard asks for, per block."""

    state: GuardState
    wake: Bools
    sleep: Bools


def step(
    compiled: CompiledPolicy, state: GuardState, margin_usd_per_mwh: Floats, share_on: Floats, elapsed_h: float
) -> GuardVerdict:
    """Book `elapsed_h` hours of margin on each block's accounts, for the share of it that was on or off."""
    gain = np.maximum(margin_usd_per_mwh, 0.0) * elapsed_h * (1 - share_on)
    loss = np.maximum(-margin_usd_per_mwh, 0.0) * elapsed_h * share_on
    forgone = np.where(margin_usd_per_mwh > 0, state.forgone_usd_per_mw + gain, 0.0)
    lost = np.where(margin_usd_per_mwh < 0, state.lost_usd_per_mw + loss, 0.0)
    has_account = compiled.wake_cost_usd_per_mw > 0
    wake = has_account & (margin_usd_per_mwh > 0) & (forgone >= compiled.wake_cost_usd_per_mw)
    sleep = has_account & (margin_usd_per_mwh < 0) & (lost >= compiled.wake_cost_usd_per_mw)
    return GuardVerdict(GuardState(forgone, lost, compiled.block_keys), wake, sleep)
