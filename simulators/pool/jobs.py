"""The jobs that the pool gives out: a new one with each block of the network, and every so often without.

A job of an older block is stale at once. Of the present block the last few jobs still count.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from simulators.bitcoin import Block, Blocks
from simulators.clock import Clock
from simulators.pool.work import Template, bits_of, sha256d, template_of

KEPT_JOBS: Final = 8


class Job(NamedTuple):
    """A numbered template. `is_clean`: all that came before it is void."""

    number: int
    template: Template
    is_clean: bool


class JobBook:
    """The jobs of one pool, all connections share them."""

    def __init__(self, seed: int, clock: Clock, every_s: float, blocks: Blocks) -> None:
        self._seed = seed
        self._clock = clock
        self._every_s = every_s
        self._blocks = blocks
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._number = 0
        self._made_real_s = 0.0
        self.renew()

    @property
    def newest(self) -> Job:
        """The job to work on."""
        return next(reversed(self._jobs.values()))

    def find(self, number: int) -> Job | None:
        """A job that still counts."""
        return self._jobs.get(number)

    def renew(self) -> Job | None:
        """A new job where a block was found or the last one is old; None: nothing new."""
        block = self._blocks(self._clock.now_s(), 1)[0]
        is_clean = not self._jobs or self.newest.template.height != block.height + 1
        real_s = self._clock.real_s()
        if not is_clean and real_s - self._made_real_s < self._every_s:
            return None
        if is_clean:
            self._jobs.clear()
        self._number += 1
        self._made_real_s = real_s
        job = Job(self._number, self._template(block), is_clean)
        self._jobs[job.number] = job
        while len(self._jobs) > KEPT_JOBS:
            self._jobs.popitem(last=False)
        return job

    def _template(self, block: Block) -> Template:
        previous_hash = sha256d(f"block/{self._seed}/{block.height}".encode())
        reward_sat = block.subsidy_sat + block.fees_sat
        time_s = int(self._clock.now_s())
        return template_of(block.height + 1, previous_hash, bits_of(block.difficulty), time_s, reward_sat, self._seed)
