"""What the simulated miners of one site are credited: shares by hour and in the last windows, as arrays.

Nobody can hash for a fleet: shares of a nominal difficulty are drawn from the hashes that the world's physics has done, every
five simulated minutes and at that instant whoever looks (`Site.calls`). What a miner says of itself is not looked at.
Files: one of hours a UTC day, and one of what the next window begins from, replaced whole: a window counts once, whatever is
killed in between.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from simulators.site import Site
from simulators.streams import FloatArray, IntArray, stream
from simulators.work import SHARE_DIFFICULTY, TH_PER_SHARE

WINDOW_S: Final = 300
HOUR_S, DAY_S = 3600, 86_400
WINDOWS: Final = HOUR_S // WINDOW_S  # kept one by one
STALE_FRACTION: Final = 0.002  # of shares, in the mean (settings of ours; pools show 0.1 to 1 % of both together)
REJECTED_FRACTION: Final = 0.002
VALID, STALE, REJECTED = 0, 1, 2
MOST_SHARES: Final = 65_535 // WINDOWS  # of a miner in a window: more than ten petahashes a second find
DIFFICULTY: Final = SHARE_DIFFICULTY  # nominal, of every simulated miner
HASHES_PER_SHARE: Final = TH_PER_SHARE * 1e12

Counts = npt.NDArray[np.uint16]

log = logging.getLogger("world.pool")


class Figures(NamedTuple):
    """Some miners at the last window's end: hashes a second and valid shares over three spans, shares of 24 hours by kind."""

    hashes_per_s: dict[str, FloatArray]
    valid: dict[str, npt.NDArray[Any]]
    shares: npt.NDArray[np.int64]  # (3, miners)
    last_share_s: FloatArray  # 0: none yet


class SiteLedger:
    """The credits of one site's miners, in the order of their slots."""

    def __init__(
        self, site: Site, seed: int, folder: Path, keep_days: int, satoshi_per_difficulty: Callable[[float], float]
    ) -> None:
        """`satoshi_per_difficulty`: what a share of difficulty 1 is worth at an instant, before the pool's fee."""
        self._satoshi_per_difficulty = satoshi_per_difficulty
        self._site = site
        self._seed = seed
        self._folder = folder / f"{site.config.site}-{site.digest}"
        self._keep_days = keep_days
        spans = [np.arange(one.first_slot, one.end_slot) for one in site.config.groups if one.kind == "ASIC"]
        self.slots: IntArray = np.sort(np.concatenate(spans)) if spans else np.zeros(0, dtype=np.int64)
        size = len(self.slots)
        self.window = 0  # number of the one that is running, counted from 1970
        self.began_s = self._ring_began_s = 0.0
        self.earned_sat = 0.0  # of all windows ever, before the pool's fee
        self.last_share_s = np.zeros(size)
        self._done_th = np.zeros(size)  # hashes until the running window's begin
        self._hour: Counts = np.zeros((3, size), dtype=np.uint16)
        self._ring: Counts = np.zeros((WINDOWS, size), dtype=np.uint16)
        self._days: dict[int, np.memmap[Any, np.dtype[np.uint16]]] = {}

    @property
    def at_s(self) -> float:
        """Until when shares are counted."""
        return float(self.window * WINDOW_S)

    def start(self) -> None:
        """Take over what there is, and count from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        running = int(self._site.at_s // WINDOW_S)
        if not self._take_over(running):
            self.window, self.began_s = running, self._site.at_s
            self._done_th = self._site.hashed_th(self._site.at_s)[self.slots]
        self._ring_began_s = max(self.began_s, self.at_s)
        self._site.calls.add((self.window + 1) * WINDOW_S, self._close)

    def figures(self, first: int, end: int) -> Figures:
        """What some miners, by their places, have been credited."""
        part = slice(first, end)
        hours = int(self.at_s // HOUR_S)
        shares = np.zeros((3, len(self.slots[part])), dtype=np.int64)
        for hour in range(hours - 23, hours + 1):
            shares += self.hour(hour)[:, part]
        spans = {
            "5m": (self._ring[(self.window - 1) % WINDOWS, part], WINDOW_S, self._ring_began_s),
            "60m": (self._ring[:, part].sum(axis=0, dtype=np.int64), HOUR_S, self._ring_began_s),
            "24h": (shares[VALID], self.at_s - (hours - 23) * HOUR_S, self.began_s),
        }
        rates = {name: self._rate(*span) for name, span in spans.items()}
        valid = {name: counts for name, (counts, _, _) in spans.items()}
        return Figures(rates, valid, shares, self.last_share_s[part])

    def day(self, day: int, first: int, end: int) -> npt.NDArray[np.int64]:
        """(3, miners) shares of a UTC day, counted from 1970."""
        hours = [self.hour(day * 24 + number)[:, first:end] for number in range(24)]
        return np.asarray(np.sum(hours, axis=0, dtype=np.int64))

    def knows(self, day: int) -> bool:
        """Whether a UTC day, counted from 1970, was counted from its beginning on, and is still kept."""
        today = int(self.at_s // DAY_S)
        return self.began_s <= day * DAY_S and day > today - self._keep_days

    def hour(self, hour: int) -> Counts:
        """(3, miners) shares of an hour, counted from 1970; the running one until its last window's end."""
        if hour == int(self.at_s // HOUR_S):
            return self._hour
        kept = self._file(hour // 24, is_new=False)
        return np.zeros_like(self._hour) if kept is None else np.asarray(kept[hour % 24])

    def _rate(self, valid: npt.NDArray[Any], span_s: float, began_s: float) -> FloatArray:
        """Hashes a second over a span, or since all was counted that there was, where that is shorter."""
        known_s = max(min(span_s, self.at_s - began_s), 1.0)
        return np.asarray(valid * (HASHES_PER_SHARE / known_s))

    def _close(self, at_s: float) -> None:
        """A window is over: draw its shares."""
        done_th = self._site.hashed_th(at_s)[self.slots]
        drawn = self._draw(np.maximum(done_th - self._done_th, 0.0) / TH_PER_SHARE)
        self._ring[self.window % WINDOWS] = drawn[VALID]
        self._hour = self._hour + drawn
        difficulty = int(drawn[VALID].sum(dtype=np.int64)) * DIFFICULTY
        self.earned_sat += difficulty * self._satoshi_per_difficulty(self.at_s)
        self.last_share_s[drawn[VALID] > 0] = at_s
        self._done_th = done_th
        hour = self.window * WINDOW_S // HOUR_S
        self.window += 1
        self._keep(hour)
        self._site.calls.add(at_s + WINDOW_S, self._close)

    def _keep(self, hour: int) -> None:
        """Write what was counted; a disk that takes nothing costs the files, and neither the counting nor the site."""
        is_over = self.window % WINDOWS == 0
        try:
            file = self._file(hour // 24, is_new=True)
            if file is not None:
                file[hour % 24] = self._hour
            if is_over:
                self._forget(hour // 24)
        except OSError as error:
            log.error("the pool can't keep the shares of %s: %s", self._folder.name, error)
        if is_over:
            self._hour = np.zeros_like(self._hour)
        try:
            self._save()
        except OSError as error:
            log.error("a restart of the pool would count %s anew: %s", self._folder.name, error)

    def _draw(self, expected: FloatArray) -> Counts:
        """Shares by kind, of so many on average: Poisson, since each hash is as likely as any other to find one."""
        draw = stream(self._seed, "pool.shares", self._site.config.site, self.window)
        parts = (1.0 - STALE_FRACTION - REJECTED_FRACTION, STALE_FRACTION, REJECTED_FRACTION)
        return np.stack([np.minimum(draw.poisson(expected * part), MOST_SHARES).astype(np.uint16) for part in parts])

    def _file(self, day: int, *, is_new: bool) -> "np.memmap[Any, np.dtype[np.uint16]] | None":
        """The hours of a day, as a file that is written to in place; None where there is none."""
        if day not in self._days:
            path, shape = self._path(day), (24, 3, len(self.slots))
            is_whole = path.exists() and path.stat().st_size == 2 * int(np.prod(shape))
            if not (is_new or is_whole) or not shape[2]:
                return None
            if not is_whole:
                _make_room(path, 2 * int(np.prod(shape)))
            self._days[day] = np.memmap(path, np.uint16, "r+", shape=shape)
        return self._days[day]

    def _path(self, day: int) -> Path:
        return self._folder / f"{day}.hours"

    def _forget(self, today: int) -> None:
        for path in self._folder.glob("*.hours"):
            if path.stem.isdecimal() and int(path.stem) <= today - self._keep_days:
                self._days.pop(int(path.stem), None)
                path.unlink()

    def _save(self) -> None:
        path = self._folder / "running.npz"
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            np.savez(
                file, window=self.window, began_s=self.began_s, done_th=self._done_th, hour=self._hour,
                last_share_s=self.last_share_s, earned_sat=self.earned_sat,
            )  # fmt: skip
        fresh.replace(path)

    def _take_over(self, running: int) -> bool:
        """Go on where an earlier process has stopped; False: where that was is not known, or over an hour ago.

        The world's state may be of a little before or after it: what was done by then counts with the next window.
        """
        try:
            with np.load(self._folder / "running.npz", allow_pickle=False) as kept:
                found = {name: kept[name] for name in kept.files}
            window, self.earned_sat = int(found["window"]), float(found.get("earned_sat", 0.0))
            if running - window > WINDOWS or found["hour"].shape != self._hour.shape:
                return False
            self.window, self.began_s = max(window, running), float(found["began_s"])
            self._done_th, self.last_share_s = found["done_th"], found["last_share_s"]
            if self.window // WINDOWS == window // WINDOWS:
                self._hour = found["hour"]
        except (OSError, ValueError, KeyError, BadZipFile):
            return False
        return True


def _make_room(path: Path, size: int) -> None:
    """A file of zeros that is all there: a write into a mapped one that the disk has no room for would end the process."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
