"""What the policy wants of groups in which somebody else has the last word. Pure.

A policy leaves a device as it is while the price is inside its band, so that after a directive's end nothing would bring back
what the directive took. Hence it is asked about the mix that would be there without the directive, and its answer is kept.
"""

from collections.abc import Collection

import numpy as np

from hcp_pipelines.policy.arrays import Ints


class Shadow:
    """Counts by state of the groups that are bent, as the policy alone would have them."""

    def __init__(self) -> None:
        self.kept: dict[int, Ints] = {}

    def over(self, present: Ints) -> Ints:
        """[g, s] the mix to ask the policy about: `present`, but for the groups that are bent, at today's number of devices."""
        if not self.kept:
            return present
        mix = present.copy()
        for g, kept in self.kept.items():
            mix[g] = _resized(kept, int(present[g].sum()))
        return mix

    def keep(self, present: Ints, bent: Collection[int]) -> None:
        """Nobody says what is wanted, as before the first policy: groups that are bent now are to come back to what they do."""
        for g in bent:
            self.kept.setdefault(g, present[g].copy())

    def note(self, targets: Ints, present: Ints, bent: Collection[int], dark: Collection[int] = ()) -> None:
        """What the policy wants now. A group that nobody bends any more is forgotten once it has arrived there.

        A group of which a part is without power stays as it was noted: what the rest does is no answer for the whole.
        """
        for g in {*bent, *self.kept} - set(dark):
            if g in bent or not np.array_equal(present[g], targets[g]):
                self.kept[g] = targets[g].copy()
            else:
                del self.kept[g]


def _resized(counts: Ints, devices: int) -> Ints:
    """The same mix with another number of devices: the commonest states give and take."""
    resized = counts.copy()
    resized[int(resized.argmax())] += max(devices - int(counts.sum()), 0)
    while (excess := int(resized.sum()) - devices) > 0:
        most = int(resized.argmax())
        resized[most] -= min(excess, int(resized[most]))
    return resized
