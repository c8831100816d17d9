"""How long a node takes for what it is asked, simulated seconds: a range each, from published figures where there are any.

Sources (FACTS §6). *vLLM*: vllmblog 2025-10-26 sleep mode: cold reload 37.6 and 58.1 s; waking from level 1 0.1–0.8 s (small
models), 3–6 s (large); from level 2 0.85 and 2.58 s. *load*: 47.99 s from one disk, 14.34 and 7.53 s streamed; a 70B model more
than 90 s naively, less than 30 s mapped. *restore*: end to end from a CUDA snapshot 4.7, about 5, 6.49 s. A range marked *ours*
has no public figure: seconds per GB of a checkpoint, for one, are published nowhere.
"""

from typing import NamedTuple

from simulators.streams import stream


class Range(NamedTuple):
    """Uniform between two durations."""

    least_s: float
    most_s: float
    source: str


TIMINGS: dict[str, Range] = {
    "start/small/cold": Range(37.6, 58.1, "vLLM"),
    "start/large/cold": Range(90.0, 120.0, "load: more than 90 s; the upper end is ours"),
    "start/small/streamed": Range(7.53, 14.34, "load"),
    "start/large/streamed": Range(15.0, 30.0, "load: less than 30 s; the lower end is ours"),
    "start/training": Range(60.0, 180.0, "ours"),
    "pause/1": Range(0.5, 3.0, "ours"),
    "pause/2": Range(0.2, 1.0, "ours"),
    "resume/1/small": Range(0.1, 0.8, "vLLM"),
    "resume/1/large": Range(3.0, 6.0, "vLLM"),
    "resume/2/small": Range(0.85, 2.58, "vLLM"),
    "resume/2/large": Range(15.0, 30.0, "load, mapped: level 2 reads the weights again"),
    "checkpoint/cuda": Range(5.0, 15.0, "ours"),
    "checkpoint/application": Range(20.0, 90.0, "ours"),
    "resume/cuda": Range(4.7, 6.49, "restore"),
    "resume/application": Range(60.0, 180.0, "ours: as a start"),
    "stop": Range(1.0, 5.0, "ours"),
    "power-cap": Range(0.05, 0.5, "ours"),
    "reset": Range(5.0, 15.0, "ours"),
    "reboot": Range(300.0, 600.0, "ours"),
}


def duration_s(seed: int, what: str, site: str, slot: int, request_id: str) -> float:
    """How long one operation takes: its own draw, whatever else the node or the world does.

    >>> 37.6 <= duration_s(7, "start/small/cold", "nor-1", 0, "a") <= 58.1
    True
    """
    least_s, most_s, _ = TIMINGS[what]
    return float(stream(seed, "gpus.timing", site, slot, what, request_id).uniform(least_s, most_s))
