"""GPUs that are about to be told to let go of their work: who has kept it, once each is where it was told to be.

Kept is what ran as it was asked, on a device that could be spoken to and had power until its way to the new state was over. One
that is told the same state again (for other work) has no way to go.
"""

import numpy as np
from pyroaring import BitMap

from simulators.fleet import Site
from simulators.roaring import from_slots, slots
from simulators.tables import CURTAILED, IDLE


class LettingGo:
    """Some devices of a site, from before they are told."""

    def __init__(self, site: Site, wanted: BitMap, at_s: float) -> None:
        site.advance(at_s)
        self._site, self._index = site, slots(wanted & site.gpus())
        self._strangers = wanted - from_slots(self._index)
        self._before = site.commanded[self._index].copy()
        self._sound = site.is_sound(self._index) & ~np.isin(
            self._before, (CURTAILED, IDLE)
        )  # a restart leaves it at rest

    def is_over(self, at_s: float, *, is_told: bool) -> bool:
        """Whether all are where they were told to be; `is_told`: who has not been told by now will not be."""
        self._site.advance(at_s)
        self._sound &= self._site.is_sound(self._index)
        has_changed = self._site.commanded[self._index] != self._before
        return bool(((has_changed | is_told) & ~self._site.is_moving(self._index) | ~self._sound).all())

    def kept(self) -> tuple[BitMap, BitMap]:
        """(kept, lost) as of the last look."""
        return from_slots(self._index[self._sound]), from_slots(self._index[~self._sound]) | self._strangers
