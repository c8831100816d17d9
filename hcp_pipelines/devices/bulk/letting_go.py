"""Whose work runs on a bulk site's slots, by what this process has told them, and what becomes of it as they let go of it.

The channel has no word for work: whose a slot's is, is known here alone, and not after a restart.
"""

import asyncio
from collections import defaultdict
from functools import partial

import numpy as np

from hcp_pipelines.devices.again import Tasks
from hcp_pipelines.devices.bulk import codec
from hcp_pipelines.devices.switches import Saved, SwitchBook, tell_saved
from hcp_pipelines.domain.errors import DeviceReplyError
from hcp_pipelines.wire.slots import Slots

LOST = "the device lost power, its application or its connection before its work was kept"

Answer = asyncio.Future[tuple[int, bytes]]


class LettingGo:
    """The work of one site's slots."""

    def __init__(self, book: SwitchBook) -> None:
        self._book = book
        self._works: dict[int, str] = {}
        self._tasks = Tasks()

    def concerns(self, workload_id: str) -> bool:
        """Whether a command is about work at all: in a hall of miners none is, and its slots need not be looked at."""
        return bool(workload_id or self._works)

    def hand_over(self, wanted: Slots, workload_id: str) -> dict[int, str]:
        """These slots, rising, run this from now on (empty: nobody's); whose work they let go of by that."""
        known = np.fromiter(self._works, dtype=np.uint32, count=len(self._works))
        places = np.searchsorted(wanted, known)
        is_among = places < len(wanted)
        is_among[is_among] = wanted[places[is_among]] == known[is_among]
        before = {slot: self._works.pop(slot) for slot in known[is_among].tolist()}
        if workload_id:
            self._works |= dict.fromkeys(wanted.tolist(), workload_id)
        return {slot: owner for slot, owner in before.items() if owner != workload_id}

    def expect(self, asked: Answer, left: dict[int, str], devices: int) -> None:
        """Tell the book what the site answers of slots that let go; a connection that is lost before tells nothing."""
        asked.add_done_callback(partial(self._heard, left, devices))

    async def close(self) -> None:
        """Tell no more."""
        await self._tasks.close()

    def _heard(self, left: dict[int, str], devices: int, asked: Answer) -> None:
        if asked.cancelled() or asked.exception() is not None or asked.result()[0] != codec.LET_GO_DONE:
            return
        self._tasks.begin(self._tell(left, devices, asked.result()[1]))

    async def _tell(self, left: dict[int, str], devices: int, payload: bytes) -> None:
        try:
            kept, lost = codec.decode_set_done(payload, devices)
        except DeviceReplyError:
            return  # nobody has said that anything is kept
        for slots, problem in ((kept, ""), (lost, LOST)):
            for workload_id, own in _by_work(slots, left).items():
                await tell_saved(self._book, Saved(workload_id, tuple(own), problem=problem))


def _by_work(slots: Slots, left: dict[int, str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for slot in slots.tolist():
        if slot in left:
            found[left[slot]].append(slot)
    return found
