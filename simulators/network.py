"""The network between a site and its gateway: latency, jitter, loss and partition, as decisions; servers carry them out.

Delays are real time, as a round trip is; cuts are simulated time, as scenarios are. A lost packet is sent again by TCP, so that
loss shows as messages that come late. Bandwidth is not modelled. A scenario's `network` gives the figures; calm has none.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from simulators.clock import Clock
from simulators.script import Script
from simulators.streams import stream

RETRANSMIT_S: Final = (
    0.2  # Linux: the least time-out before a segment is sent again; each further one waits twice as long
)
MOST_RETRIES: Final = 5
_POLL_S = 0.05


class Link:
    """One connection to a site. Its delays are drawn in order, from a stream of its own."""

    def __init__(self, network: "Network", site: int, number: int) -> None:
        self._network = network
        self._site = site
        self._draw = stream(network.seed, "network", site, number)

    @property
    def is_ideal(self) -> bool:
        """Whether nothing is ever late, lost or cut here."""
        return self._network.is_ideal

    def is_cut(self, at_s: float) -> bool:
        """Whether nothing passes at a simulated instant: a new connection is not answered, a standing one is silent."""
        return self._network.script.is_cut(self._site, at_s)

    def delay_s(self) -> float:
        """How long the next message is under way, real seconds."""
        plan = self._network.script.scenario.network
        delay_s = (plan.latency_ms + plan.jitter_ms * abs(float(self._draw.standard_normal()))) / 1000.0
        for attempt in range(MOST_RETRIES):
            if not plan.loss_fraction or self._draw.random() >= plan.loss_fraction:
                break
            delay_s += RETRANSMIT_S * 2.0**attempt
        return delay_s

    async def carry(self, clock: Clock, messages: int = 1) -> bool:
        """Wait as long as some messages are under way; False: the link was cut meanwhile, and they are lost.

        A cut is waited out: who is cut off hears nothing, not even that it is.
        """
        if self.is_ideal:
            return True
        if delay_s := sum(self.delay_s() for _ in range(messages)):
            await asyncio.sleep(delay_s)
        was_cut = False
        while self.is_cut(clock.now_s()):
            was_cut = True
            await asyncio.sleep(_POLL_S)
        return not was_cut


class Network:
    """The links of a world."""

    def __init__(self, seed: int, script: Script, sites: Sequence[str]) -> None:
        self.seed = seed
        self.script = script
        self._numbers = {site: number for number, site in enumerate(sites)}
        self._opened = 0
        plan = script.scenario.network
        self.is_ideal = not (plan.latency_ms or plan.jitter_ms or plan.loss_fraction or plan.cuts)

    def link(self, site: str) -> Link:
        """A new connection to a site."""
        self._opened += 1
        return Link(self, self._numbers[site], self._opened)
