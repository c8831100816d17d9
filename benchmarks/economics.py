"""`hcp bench economics`: how long it takes to score a whole fleet, device by device, in memory.

Each of 300,000 devices has a hashrate or a rate and a power of its own. Timed is everything from the market's values to the
scored rows: hashprice, revenue, cost, the ranking within resources and sites, recommendations. No database, no processes.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
import polars as pl

from benchmarks.common import about, load_average, percentile, print_figures, progress, rounded
from hcp_pipelines.economics import gpu, mining
from hcp_pipelines.economics.profitability import SITE_SCHEMA, score_uses

TARGET_MS = 50.0
TARGET = f"p50_ms < {TARGET_MS:.0f} at 300,000 devices"
DEVICES, SITES, GPU_SHARE = 300_000, 12, 1 / 6  # of the GPUs each can do two kinds of work
ROUNDS, QUICK_ROUNDS, WARM_UP = 101, 21, 3
MODELS = ((200.0, 17.5), (270.0, 13.5), (186.0, 18.5), (140.0, 21.5))  # TH/s, J/TH
SCARCE = 0.8  # of what its devices would draw, at every second site
BTC_USD, DIFFICULTY, FEES_BTC, HEIGHT = 93_500.0, 109.78e12, 0.08, 877_000
PRICE_USD_PER_MWH, SEED = 70.0, 7


def fleet(devices: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A row per device and use without its revenue; and the sites, of which every second has less power than is wanted."""
    random = np.random.default_rng(SEED)
    gpus = int(devices * GPU_SHARE)
    device = np.concatenate([np.arange(devices), np.arange(devices - gpus, devices)])
    device.sort(kind="stable")  # both uses of a GPU follow one another
    is_gpu = device >= devices - gpus
    rate, efficiency = np.array(MODELS)[device % len(MODELS)].T
    spread = random.normal(1.0, 0.03, len(device)).clip(0.9, 1.1)
    names = [f"site-{n:02}" for n in range(SITES)]
    is_second = np.append(False, device[1:] == device[:-1])
    uses = pl.DataFrame(
        {
            "resource_id": device,
            "site_id": pl.Series([names[n] for n in device * SITES // devices], dtype=pl.Enum(names)),
            "type": np.where(is_gpu, "GPU", "ASIC"),
            "workload_type": np.where(
                is_gpu, np.where(is_second, "ai_inference_realtime", "ai_inference_batch"), "bitcoin_mining"
            ),
            "hash_rate_th_per_s": np.where(is_gpu, 0.0, rate * spread),
            "rate_usd_per_gpu_hour": np.where(is_gpu, 2.4 * spread, 0.0),
            "power_kw": np.where(is_gpu, 1.3, rate * efficiency / 1000) * spread[::-1] * 1.05,
            "price_usd_per_mwh": PRICE_USD_PER_MWH + 10 * random.standard_normal(SITES)[device * SITES // devices],
            "switch_usd": np.where(is_gpu, 0.03, 0.1),
            "is_present": (random.random(len(device)) < 0.5) & ~is_second,
            "dwell_h": 1.0,
            "confidence_factor": 1.0,
        }
    )
    wanted_mw = uses.group_by("site_id", maintain_order=True).agg(pl.col("power_kw").sum() / 1000)["power_kw"]
    limits = [mw * SCARCE if n % 2 else mw for n, mw in enumerate(wanted_mw)]
    return uses, pl.DataFrame({"site_id": names, "limit_mw": limits, "resting_usd_per_mwh": 0.0}, schema=SITE_SCHEMA)


def score(uses: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """What is timed."""
    hashprice = pl.lit(mining.hashprice_usd_per_ph_day(BTC_USD, DIFFICULTY, FEES_BTC, HEIGHT))
    mined = mining.revenue_columns(pl.col("hash_rate_th_per_s"), hashprice, pl.lit(0.01))
    served = gpu.revenue_columns(pl.col("rate_usd_per_gpu_hour"), pl.lit(gpu.DEFAULT_UTILIZATION), pl.lit(1.0))
    return score_uses(uses.with_columns(mined + served), sites)


def measure(devices: int, rounds: int) -> dict[str, Any]:
    """Scores the same fleet again and again."""
    uses, sites = fleet(devices)
    for _ in range(WARM_UP):
        scores = score(uses, sites)
    wall_ms, cpu_ms = [], []
    for _ in progress(range(rounds), "scoring"):
        began_s, before_s = time.perf_counter(), time.process_time()
        scores = score(uses, sites)
        wall_ms.append((time.perf_counter() - began_s) * 1000)
        cpu_ms.append((time.process_time() - before_s) * 1000)
    counts = dict(scores["recommendation"].cast(pl.String).value_counts().iter_rows())
    return {
        "devices": devices,
        "uses": len(scores),
        "rounds": rounds,
        "p50_ms": rounded(percentile(wall_ms, 0.5)),
        "p95_ms": rounded(percentile(wall_ms, 0.95)),
        "least_ms": rounded(min(wall_ms)),
        "cpu_p50_ms": rounded(percentile(cpu_ms, 0.5)),
        **{word: counts.get(word, 0) for word in ("allocate", "hold", "switch")},
    }


def main() -> int:
    """Run the benchmark; exit code 1 when the target is missed."""
    parser = argparse.ArgumentParser(prog="hcp bench economics", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument("--devices", type=int, default=DEVICES, help=f"how many (default {DEVICES})")
    arguments = parser.parse_args()
    if arguments.devices < SITES:
        parser.error(f"--devices {arguments.devices}: at least {SITES}, one a site")
    began_s, load = time.monotonic(), load_average()
    figures = measure(arguments.devices, QUICK_ROUNDS if arguments.quick else ROUNDS)
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s) | {"load_average_before": load}
    print_figures(figures, as_json=arguments.json)
    return 0 if figures["p50_ms"] < TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
