"""`python -m simulators.workloads.fit DATA_DIR DATE` writes `fitted.yaml`.

Every family is fitted to the first part of its trace and judged by the rest. The traces stay where they are:
numbers alone come into the repository.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from simulators.streams import FloatArray, stream
from simulators.workloads import fitted
from simulators.workloads.distributions import Quantiles, ks_distance
from simulators.workloads.fit_arrivals import dispersion, fit_arrivals, made_like, over_mean
from simulators.workloads.fit_prices import fit_customers, fit_prices
from simulators.workloads.fit_traces import Sample, gpus_of_whole_tasks, image_customers, samples
from simulators.workloads.fitted import Family, FittedNumbers, Goodness

FITTED_SHARE: Final = 0.7  # by number of arrivals; what comes after is held out
SEED: Final = 20_251_126  # of what is made to be compared
MADE: Final = 12  # realisations


def fit(data: Path, fitted_on: str) -> FittedNumbers:
    """Every number of the file, from a folder with `traces`, `gpu` and `btc`."""
    gpus = gpus_of_whole_tasks(data / "traces")
    return FittedNumbers(
        fitted_on=fitted_on,
        families={name: _family(sample) for name, sample in samples(data / "traces").items()},
        gpus_per_training={number: round(count / sum(gpus.values()), 6) for number, count in gpus.items()},
        customers=fit_customers(image_customers(data / "traces")),
        prices=fit_prices(data),
    )


def _family(sample: Sample) -> Family:
    cut = int(FITTED_SHARE * len(sample.times))
    arrivals = fit_arrivals(sample.times[:cut], sample.window_s)
    sizes = {name: Quantiles.fit(_known(values[:cut]), sample.most[name]) for name, values in sample.sizes.items()}
    made = [made_like(arrivals, sample.times[:cut], SEED + number) for number in range(MADE)]
    return Family(
        source=sample.source,
        licence=sample.licence,
        fitted_rows=cut,
        held_out_rows=len(sample.times) - cut,
        arrivals=arrivals,
        sizes=sizes,
        goodness=Goodness(
            gaps_ks=_three(
                ks_distance(np.concatenate([over_mean(each) for each in made]), over_mean(sample.times[cut:]))
            ),
            gaps_ks_of_trace=_three(ks_distance(over_mean(sample.times[:cut]), over_mean(sample.times[cut:]))),
            sizes_ks={name: _three(_distance(fit, sample.sizes[name][cut:])) for name, fit in sizes.items()},
            sizes_ks_of_trace={
                name: _three(ks_distance(_known(values[:cut]), _known(values[cut:])))
                for name, values in sample.sizes.items()
            },
            dispersion_trace=_three(dispersion(sample.times[:cut], sample.window_s)),
            dispersion_made=_three(float(np.median([dispersion(each, sample.window_s) for each in made]))),
        ),
    )


def _distance(fit: Quantiles, held_out: FloatArray) -> float:
    """Of a fit from values it has not seen; what a trace counts in whole units is drawn so, too."""
    known = _known(held_out)
    drawn = fit.draw(stream(SEED, "sizes").random(20 * len(known)))
    return ks_distance(np.maximum(np.round(drawn), 1.0), np.round(known))


def _known(values: FloatArray) -> FloatArray:
    return values[~np.isnan(values) & (values > 0)]


def _three(value: float) -> float:
    return round(value, 3)


def main() -> int:
    """Write the file; 2 when the data are not there."""
    parser = argparse.ArgumentParser(prog="python -m simulators.workloads.fit", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that holds traces/, gpu/ and btc/")
    parser.add_argument("date", help="the day of the fit, as the file shall say")
    arguments = parser.parse_args()
    try:
        numbers = fit(arguments.data, arguments.date)
    except FileNotFoundError as error:
        sys.stderr.write(f"{error}: the folder needs traces/, gpu/ and btc/ (docs/workloads.md)\n")
        return 2
    text = yaml.safe_dump(numbers.model_dump(mode="json"), sort_keys=False, width=110, default_flow_style=None)
    fitted.PATH.write_text(
        f"# Written by `python -m simulators.workloads.fit`; don't edit (docs/workloads.md).\n{text}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
