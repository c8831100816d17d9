"""All miners of the world: found by address, and what each of them remembers, here and on the disk.

A miner that was never told anything costs nothing, however often it is read.
"""

from bisect import bisect_right
from functools import partial

from pyroaring import BitMap

from simulators.addresses import Place, address_of, locate
from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.miners.firmware import firmware_named
from simulators.miners.memory import Memory
from simulators.miners.miner import Miner
from simulators.pool.names import worker_name
from simulators.settings import WorldConfig

_KIND = "miner"


class Hall:
    """All miners of the world by their address."""

    def __init__(self, config: WorldConfig, fleet: Fleet, transitions: TransitionLog, clock: Clock) -> None:
        self.seed = config.seed
        self.clock = clock
        self.transitions = transitions
        self._account = config.protocols.pool.account
        self._sites = [fleet.sites[site.site] for site in config.sites]
        self._groups = [sorted(site.groups, key=lambda group: group.first_slot) for site in config.sites]
        self._firsts = [[group.first_slot for group in groups] for groups in self._groups]
        named = dict.fromkeys(g.firmware for site in config.sites for g in site.groups if g.kind == "ASIC")
        self._firmware = {name: firmware_named(name) for name in named}
        self._memories: dict[Place, Memory] = {}
        self._changed: dict[Place, Miner] = {}
        self._restore()
        for index, site in enumerate(self._sites):
            site.on_boot.append(partial(self._lose_power, index))

    def at(self, address: str) -> Miner | None:
        """The miner at an address, whatever its condition; None where there is none."""
        place = locate(address)
        if place is None or place.site_index >= len(self._sites):
            return None
        number = bisect_right(self._firsts[place.site_index], place.slot) - 1
        group = self._groups[place.site_index][number] if number >= 0 else None
        if group is None or place.slot >= group.end_slot or group.kind != "ASIC":
            return None
        return Miner(self, place, self._sites[place.site_index], group, self._firmware[group.firmware], address)

    @property
    def remembered(self) -> int:
        """How many miners were ever told anything."""
        return len(self._memories)

    def worker(self, place: Place) -> str:
        """The name that a miner has at its pools."""
        return worker_name(self._account, self._sites[place.site_index].config.site, place.slot)

    def memory(self, place: Place) -> Memory | None:
        """What a miner was told; None: nothing yet."""
        return self._memories.get(place)

    def keep(self, miner: Miner) -> None:
        """Have a miner remember what it is told from now on, on the disk once `write` is called."""
        self._memories.setdefault(miner.place, miner.memory)
        self._changed[miner.place] = miner

    def write(self) -> None:
        """Put what miners were told onto the disk; to be called before they answer."""
        for miner in self._changed.values():
            document = miner.memory.document(miner.factory_memory())
            self.transitions.memories.put(_key(miner), document or None)
        self._changed.clear()

    def boot_later(self, miner: Miner, until_s: float) -> None:
        """Let a miner take up work again at an instant."""
        miner.site.calls.add(until_s, partial(self._finish_boot, miner.address))

    def _finish_boot(self, address: str, at_s: float) -> None:
        miner = self.at(address)
        if miner is not None:
            miner.finish_boot(at_s)
            self.write()

    def _lose_power(self, site_index: int, whom: BitMap, at_s: float) -> None:
        """Miners begin to boot after they were without power."""
        for slot in whom if self._memories else ():
            memory = self._memories.get(Place(site_index, slot))
            miner = self.at(address_of(site_index, slot)) if memory is not None else None
            if miner is not None:
                miner.lose_power(at_s)
        self.write()

    def _restore(self) -> None:
        """Take over what an earlier process has left of miners that are still the same."""
        for key, document in self.transitions.memories.items(f"{_KIND}/"):
            miner = self._of_key(key)
            if miner is None:
                self.transitions.memories.put(key, None)
                continue
            miner.memory.take_over(document)
            self._memories[miner.place] = miner.memory
            if miner.memory.boot_state is not None:
                self.boot_later(miner, miner.memory.boot_until_s)

    def _of_key(self, key: str) -> Miner | None:
        _, site, _, slot = key.rsplit("/", 3) if key.count("/") == 3 else ("", "", "", "")
        for index, one in enumerate(self._sites):
            if one.config.site == site and slot.isdecimal() and int(slot) < one.devices:
                miner = self.at(address_of(index, int(slot)))
                return miner if miner is not None and _key(miner) == key else None
        return None


def _key(miner: Miner) -> str:
    """Names a miner and the group it is of."""
    return f"{_KIND}/{miner.site.config.site}/{miner.site.keys[miner.group.group]}/{miner.place.slot}"
