"""What every market service reads: recorded values where there are some, generated ones elsewhere, and which is which.

Knows no protocol and no clock: callers ask for instants and decide what is already known.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulators.bitcoin import FINE_STEP_S, HOUR_S, BitcoinNetwork, BitcoinPrice, Block, Candle
from simulators.clock import iso
from simulators.gpu import GpuMarket, Offer
from simulators.power import PowerGenerator
from simulators.replay import Recording, Series, load_recording
from simulators.scenarios import Scenario, scenario_named
from simulators.script import Script, begins_s
from simulators.settings import WorldConfig, WorldConfigError
from simulators.streams import DAY_S, BoolArray, FloatArray, IntArray
from simulators.system import capacity_price, zone_load
from simulators.weather import Weather

RECORDED, GENERATED = "recorded", "generated"
_BLOCKS_A_DAY = 144
_FIRST_DAY = 14_245  # 2009-01-01, and nobody asks for the very first blocks
SYSTEM_POINT = "HB_HUBAVG"  # whose day-ahead price and weather stand for the whole system


class Values(NamedTuple):
    """Values and, for each, whether it was recorded."""

    values: FloatArray
    is_recorded: BoolArray


class Quote(NamedTuple):
    """One value and where it comes from."""

    value: float
    source: str


class World:
    """Prices, candles, blocks and offers at any instant, past or coming."""

    def __init__(self, config: WorldConfig, recording: Recording | None = None) -> None:
        self.config = config
        self.recording = recording
        self.points = config.points
        scenario = scenario_named(config.scenario)
        self.script = Script(scenario, self._begins_s(scenario))
        self.weather = Weather(config.seed, self.script, recording.temperatures if recording else ())
        self._power = PowerGenerator(config.seed, scenario, self.script.origin_s)
        self._price = BitcoinPrice(config.seed)
        self._network = BitcoinNetwork(config.seed)
        self._gpu = GpuMarket(config.seed, self.script)
        self._day_blocks = lru_cache(maxsize=64)(self._make_day_blocks)
        if recording is not None:
            self._refuse_unknown_points(recording)

    @classmethod
    def load(cls, config: WorldConfig) -> "World":
        """The world of a configuration, with its recording if it replays one."""
        return cls(config, load_recording(config.replay_dir) if config.replay_dir else None)

    def start_s(self) -> int:
        """The instant this world begins at unless told otherwise, Unix seconds."""
        return int(self.script.origin_s)

    def _begins_s(self, scenario: Scenario) -> int:
        if self.config.start_at is not None:
            return int(self.config.start_at.timestamp())
        if self.recording is None:
            return begins_s(scenario)
        needed = [self._recorded_name(site.settlement_point) for site in self.config.sites]
        return self.recording.first_instant_s(needed or [self._recorded_name(point) for point in self.points])

    def lmp(self, point: str, starts_s: IntArray) -> Values:
        """LMPs of the 5-minute intervals beginning at these instants, $/MWh."""
        recorded = self._recorded(self.recording.rt if self.recording else {}, point, starts_s)
        return self._filled(recorded, starts_s, lambda missing: self._power.lmp(point, missing))

    def spp(self, point: str, starts_s: IntArray) -> Values:
        """Real-time settlement prices of the 15-minute intervals beginning at these instants, $/MWh."""
        parts = [self.lmp(point, starts_s + offset_s) for offset_s in (0, 300, 600)]
        first, values = parts[0].values, np.array([part.values for part in parts])
        is_level = (values == first).all(axis=0)  # a recorded 15-minute price is served to the last digit
        return Values(np.where(is_level, first, np.round(values.mean(axis=0), 2)), parts[0].is_recorded)

    def day_ahead(self, point: str, starts_s: IntArray) -> Values:
        """Day-ahead prices of the hours beginning at these instants, $/MWh."""
        recorded = self._recorded(self.recording.da if self.recording else {}, point, starts_s)
        return self._filled(recorded, starts_s, lambda missing: self._power.da(point, missing))

    def capacity_price(self, product: str, starts_s: IntArray) -> Values:
        """Day-ahead clearing prices of capacity for the hours beginning at these instants, $/MW for one hour."""
        recorded = _looked_up(self.recording.reserves.get(product, []) if self.recording else [], starts_s)

        def generate(missing: IntArray) -> FloatArray:
            return capacity_price(product, missing, lambda hours: self.day_ahead(SYSTEM_POINT, hours).values)

        return self._filled(recorded, starts_s, generate)

    def zone_load(self, zone: str, starts_s: IntArray) -> Values:
        """Mean load of a weather zone in the hours beginning at these instants, MW."""
        recorded = _looked_up(self.recording.loads.get(zone, []) if self.recording else [], starts_s)

        def temperatures(hours: IntArray) -> FloatArray:
            return np.array([self.weather.at_hour(SYSTEM_POINT, int(start_s) // HOUR_S) for start_s in hours])

        return self._filled(recorded, starts_s, lambda missing: zone_load(zone, missing, temperatures))

    def btc_usd(self, at_s: float) -> Quote:
        """The bitcoin price at an instant, USD."""
        hour, offset_s = divmod(at_s, HOUR_S)
        path, source = self.path(int(hour))
        return Quote(round(float(path[int(offset_s // FINE_STEP_S)]), 2), source)

    def candle(self, hour: int, until_s: float) -> tuple[Candle, str]:
        """The candle of a UTC hour as known at an instant (a running hour is partial)."""
        recorded = self.recording.candles.get(hour * HOUR_S) if self.recording else None
        if recorded and (hour + 1) * HOUR_S <= until_s:
            return recorded, RECORDED
        path, source = self.path(hour)
        share = min(1.0, max(0.0, (until_s - hour * HOUR_S) / HOUR_S))
        known = np.round(path[: int(share * (len(path) - 1)) + 1], 2)
        volume = recorded.volume if recorded else self._price.volume(hour)
        low, high = float(known.min()), float(known.max())
        made = Candle(hour * HOUR_S, low, high, float(known[0]), float(known[-1]), round(volume * share, 4))
        return made, source

    def blocks(self, at_s: float, count: int) -> tuple[list[Block], str]:
        """The last `count` blocks mined by an instant, newest first."""
        found: list[Block] = []
        day, all_recorded = int(at_s // DAY_S), True
        while len(found) < count:
            blocks, is_recorded = self._day_blocks(day)
            all_recorded &= is_recorded
            found += [block for block in reversed(blocks) if block.timestamp_s <= at_s]
            day -= 1
        return found[:count], RECORDED if all_recorded else GENERATED

    def latest_blocks(self, at_s: float, count: int) -> list[Block]:
        """The same, without where they are from."""
        return self.blocks(at_s, count)[0]

    def blocks_below(self, height: int, count: int, at_s: float) -> tuple[list[Block], str] | None:
        """The last `count` blocks up to a height, newest first; None where no such block is mined by an instant, or known."""
        tip = self.blocks(at_s, 1)[0][0]
        nearly = int(at_s // DAY_S) - max(0, tip.height - height) // _BLOCKS_A_DAY
        day, all_recorded = max(nearly, _FIRST_DAY + 1), True
        while self._day_blocks(day)[0][-1].height < height and day <= at_s // DAY_S:
            day += 1
        while self._day_blocks(day)[0][0].height > height and day > _FIRST_DAY:
            day -= 1
        found: list[Block] = []
        while len(found) < count and day > _FIRST_DAY:
            blocks, is_recorded = self._day_blocks(day)
            all_recorded &= is_recorded
            found += [block for block in reversed(blocks) if block.height <= height and block.timestamp_s <= at_s]
            day -= 1
        if not found or found[0].height != height:
            return None
        return found[:count], RECORDED if all_recorded else GENERATED

    def temperature_c(self, point: str, at_s: float) -> Quote:
        """Outdoor temperature near a settlement point, °C."""
        source = RECORDED if self.weather.is_recorded(point, at_s) else GENERATED
        return Quote(round(self.weather.temperature_c(point, at_s), 2), source)

    def gpu_offers(self, at_s: float) -> tuple[list[Offer], str]:
        """Rental offers listed at an instant."""
        return self._gpu.offers(at_s), GENERATED

    def describe(self) -> list[dict[str, object]]:
        """Which series come from where, with their span and gaps (for `/world/series`)."""
        rows: list[dict[str, object]] = []
        for stream_name, table in (("power.rt", "rt"), ("power.da", "da")):
            recorded: dict[str, list[Series]] = getattr(self.recording, table) if self.recording else {}
            for point in self.points:
                parts = recorded.get(self._recorded_name(point), [])
                rows.append(_described(stream_name, point, self._recorded_name(point), parts))
        hours = sorted(self.recording.candles) if self.recording else []
        days = [day * DAY_S for day in sorted(self.recording.days)] if self.recording else []
        for stream_name, starts, step_s in (("btc.usd", hours, HOUR_S), ("btc.network", days, DAY_S)):
            parts = [Series(np.array(starts, dtype=np.int64), np.zeros(len(starts)), step_s)] if starts else []
            rows.append(_described(stream_name, "BTC", "BTC", parts))
        for point in self.points:
            temperature = self.weather.recorded_for(point)
            rows.append(_described("weather.temperature", point, point, [temperature] if temperature else []))
        rows.append(_described("gpu.spot", "all", "all", []))
        return rows

    def _recorded_name(self, point: str) -> str:
        return self.config.point_map.get(point, point)

    def _refuse_unknown_points(self, recording: Recording) -> None:
        for site in self.config.sites:
            if self._recorded_name(site.settlement_point) not in recording.rt:
                message = (
                    f"site {site.site}: settlement point {site.settlement_point} is not recorded in "
                    f"{self.config.replay_dir} (recorded: {', '.join(sorted(recording.rt)) or 'none'}); "
                    f"map it (HCP_WORLD_MAP, point_map in the world's file) or choose another point"
                )
                raise WorldConfigError(message)

    def _recorded(self, table: dict[str, list[Series]], point: str, starts_s: IntArray) -> Values:
        return _looked_up(table.get(self._recorded_name(point), []), starts_s)

    @staticmethod
    def _filled(recorded: Values, starts_s: IntArray, generate: Callable[[IntArray], FloatArray]) -> Values:
        missing = ~recorded.is_recorded
        if missing.any():
            recorded.values[missing] = generate(starts_s[missing])
        return recorded

    def path(self, hour: int) -> tuple[FloatArray, str]:
        """The price through an hour, one value per 5 s; a recorded hour is bridged from open to close in its range."""
        candle = self.recording.candles.get(hour * HOUR_S) if self.recording else None
        if candle is None:
            return self._price.path(hour) * self._continuation(hour) * self._shifts(hour), GENERATED
        bridge = self._price.bridge(hour)
        line = np.linspace(candle.open, candle.close, len(bridge))
        half_range = 0.5 * (candle.high - candle.low)
        return np.clip(line + bridge * half_range, candle.low, candle.high), RECORDED

    def _shifts(self, hour: int) -> FloatArray | float:
        """What the scenario makes of the generated price through an hour."""
        if not self.script.scenario.bitcoin:
            return 1.0
        return self.script.bitcoin_factor(hour * HOUR_S + np.arange(0.0, HOUR_S + 1, FINE_STEP_S))

    def _continuation(self, hour: int) -> float:
        """Factor that joins the generated price to the end (or beginning) of the recorded one."""
        if not self.recording or not self.recording.candles:
            return 1.0
        first_s, last_s = self._candle_span
        if hour * HOUR_S < first_s:
            return self.recording.candles[first_s].open / self._price.at_hour(first_s // HOUR_S)
        before_s = hour * HOUR_S if hour * HOUR_S < last_s else last_s
        while before_s not in self.recording.candles:
            before_s -= HOUR_S
        return self.recording.candles[before_s].close / self._price.at_hour(before_s // HOUR_S + 1)

    @property
    def _candle_span(self) -> tuple[int, int]:
        candles = self.recording.candles if self.recording else {}
        return next(iter(candles)), next(reversed(candles))

    def _make_day_blocks(self, day: int) -> tuple[list[Block], bool]:
        """Blocks of a UTC day, oldest first; days outside the recording continue its height and difficulty."""
        days = self.recording.days if self.recording else {}
        if day in days and self.recording:
            return self.recording.blocks_of_day(self.config.seed, day), True
        generated = self._generated_day(day)
        earlier = [known for known in days if known < day]
        if not earlier or not generated:
            return generated, False
        last = max(earlier)
        joint = self._generated_day(last + 1)[0]
        lift = days[last].first_height + days[last].block_count - joint.height
        ratio = days[last].difficulty / joint.difficulty
        moved = [
            Block(block.height + lift, block.timestamp_s, block.difficulty * ratio, block.fees_sat)
            for block in generated
        ]
        return moved, False

    def _generated_day(self, day: int) -> list[Block]:
        blocks = self._network.blocks_before((day + 1) * DAY_S - 1, 400)
        return [block for block in blocks if block.timestamp_s >= day * DAY_S]


def _looked_up(parts: list[Series], starts_s: IntArray) -> Values:
    """What is recorded at these instants, of the first part that has it."""
    values, found = np.full(len(starts_s), np.nan), np.zeros(len(starts_s), dtype=np.bool_)
    for series in parts:
        more, is_there = series.lookup(starts_s)
        take = is_there & ~found
        values[take] = more[take]
        found |= take
    return Values(values, found)


def _described(stream_name: str, series: str, recorded_as: str, parts: list[Series]) -> dict[str, object]:
    return {
        "stream": stream_name,
        "series": series,
        "source": RECORDED if parts else GENERATED,
        "recorded_as": recorded_as if parts else None,
        "recorded": [
            {
                "first": iso(float(part.starts_s[0])),
                "last": iso(float(part.starts_s[-1])),
                "step_s": part.step_s,
                "rows": len(part.starts_s),
                "gaps": part.gaps,
            }
            for part in parts
        ],
    }
