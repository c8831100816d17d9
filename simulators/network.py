"""The network between a site and its gateway: latency, jitter, loss and partition, as decisions; servers carry them out.

Delays are real time, as a round trip is; cuts are simulated time, as scenarios are. A lost packet is sent again by TCP, so that
loss shows as messages that come late. Bandwidth is not modelled. A scenario's `network` gives the figures; calm has none.
The bulk channel waits by `Link.carry`; the devices' own protocols stand behind `wires`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from simulators.clock import Clock
from simulators.script import Script
from simulators.streams import stream

RETRANSMIT_S: Final = (
    0.2  # Linux: the least time-out before a segment is sent again; each further one waits twice as long
)
MOST_RETRIES: Final = 5
_LOOK_S: Final = 0.1  # real, while a site is cut off: a clock that is moved by hand tells nobody


class Link:
    """One connection to a site. The delays of each direction are drawn in order, from a stream of its own."""

    def __init__(self, network: "Network", site: int, end: str, number: int) -> None:
        self._network = network
        self.site = site
        key = ("network", site, end, number)
        self._there = stream(network.seed, *key, "there")
        self._back = stream(network.seed, *key, "back")

    @property
    def is_ideal(self) -> bool:
        """Whether nothing is ever late, lost or cut here."""
        return self._network.is_ideal

    def is_cut(self, at_s: float) -> bool:
        """Whether nothing passes at a simulated instant: a new connection is not answered, a standing one is silent."""
        return self._network.is_cut(self.site, at_s)

    def delay_s(self, *, is_back: bool = False) -> float:
        """How long the next message to the site (or back) is under way, real seconds."""
        plan = self._network.script.scenario.network
        draw = self._back if is_back else self._there
        delay_s = (plan.latency_ms + plan.jitter_ms * abs(float(draw.standard_normal()))) / 1000.0
        for attempt in range(MOST_RETRIES):
            if not plan.loss_fraction or draw.random() >= plan.loss_fraction:
                break
            delay_s += RETRANSMIT_S * 2.0**attempt
        return delay_s

    async def carry(self, clock: Clock, messages: int = 1) -> bool:
        """Wait as long as some messages, there and back in turn, are under way; False: the link was cut, and they are lost.

        A cut is waited out: who is cut off hears nothing, not even that it is.
        """
        if self.is_ideal:
            return True
        if delay_s := sum(self.delay_s(is_back=number % 2 == 1) for number in range(messages)):
            await asyncio.sleep(delay_s)
        if not self.is_cut(clock.now_s()):
            return True
        is_whole = asyncio.Event()
        self._network.when_whole(self.site, clock, is_whole.set)
        await is_whole.wait()
        return False


class Network:
    """The links of a world."""

    def __init__(self, seed: int, script: Script, sites: Sequence[str]) -> None:
        self.seed = seed
        self.script = script
        self._numbers = {site: number for number, site in enumerate(sites)}
        self._opened: Counter[tuple[int, str]] = Counter()
        self._waiting: dict[int, list[Callable[[], None]]] = {}
        plan = script.scenario.network
        self.is_ideal = not (plan.latency_ms or plan.jitter_ms or plan.loss_fraction or plan.cuts)

    def link(self, site: str) -> Link:
        """A new connection to a site's bulk channel."""
        return self.link_to(self._numbers[site], "bulk")

    def link_to(self, site: int, end: str) -> Link:
        """A new connection to an address at a site, by number; the same whatever is opened to other ones."""
        self._opened[site, end] += 1
        return Link(self, site, end, self._opened[site, end])

    def is_cut(self, site: int, at_s: float) -> bool:
        """Whether a site, by number, is cut off at a simulated instant."""
        return bool(self.script.scenario.network.cuts) and self.script.is_cut(site, at_s)

    def when_whole(self, site: int, clock: Clock, then: Callable[[], None]) -> None:
        """Call back once a site is no longer cut off; one timer a site looks for it."""
        waiting = self._waiting.setdefault(site, [])
        waiting.append(then)
        if len(waiting) == 1:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look, site, clock)

    def _look(self, site: int, clock: Clock) -> None:
        if self.is_cut(site, clock.now_s()):
            asyncio.get_running_loop().call_later(_LOOK_S, self._look, site, clock)
            return
        for then in self._waiting.pop(site, []):
            then()
