"""What goes wrong at an API server, as told by whoever runs it; nothing does by itself."""

from dataclasses import dataclass, field


@dataclass
class Troubles:
    """Changed at any time."""

    latency_s: float = 0.0  # real, before each answer
    fail_next: list[int] = field(default_factory=list)  # statuses of the next answers to writes, in order
    fail_lists: list[int] = field(default_factory=list)  # of the next lists
    conflict_next: int = 0  # so many patches find that somebody else was faster
    refuse_starts: bool = False  # a policy forbids Jobs that run
    cut_watches_after: int = 0  # events, then the connection is cut in the middle of a line; 0: never
    has_bookmarks: bool = True
    never_ready: set[str] = field(default_factory=set)  # names' parts: their pods start and stay unready
    fails: set[str] = field(default_factory=set)  # names' parts: their pods end badly at once
    unfit: dict[str, str] = field(
        default_factory=dict
    )  # names' parts, and why their pods can't run: they are restarted in vain
    killed: set[str] = field(default_factory=set)  # names' parts: their pods are gone without a last word
    nameless: set[str] = field(default_factory=set)  # names' parts: their pods end well and name no checkpoint
    keeps_nothing: dict[str, str] = field(
        default_factory=dict
    )  # names' parts, and why their pods can't keep their work
