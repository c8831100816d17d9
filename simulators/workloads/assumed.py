"""What no trace tells, as `assumed.yaml` holds it: models, latencies, deadlines, habits. Another file may take its place."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from simulators.workloads.distributions import Fitted

PATH: Final = Path(__file__).with_name("assumed.yaml")
MINING: Final = "mining"

WorkloadType = Literal["ai_inference_realtime", "ai_inference_batch", "model_training", "bitcoin_mining"]
Chance = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class AssumedError(Exception):
    """The file can't be used; the message says why."""


class Lognormal(Fitted):
    """By its median and the standard deviation of its logarithm."""

    median: Positive
    sigma: float = Field(ge=0, le=3)


class Latency(Lognormal):
    """Of those that state one; kept within limits, since they tell classes apart."""

    chance: Chance
    least: float = 1.0
    most: float = 1e7


class Sometimes(Lognormal):
    """A figure that a share of requests has. Of deadlines: the slack, in durations beyond the first."""

    chance: Chance


class Data(Fitted):
    """Where a share of requests has its data: in the customer's own region."""

    chance: Chance
    median_gb: Positive
    sigma: float = Field(ge=0, le=3)


class Kind(Fitted):
    """A family of work. `share` of all requests; `models` by billions of parameters, `batch` sizes by share.

    `tokens_of`: the family whose fitted tokens its items have.
    """

    workload_type: WorkloadType
    share: float = Field(ge=0, le=1)
    weekend: Positive
    models: dict[str, Positive] = Field(default_factory=dict)
    batch: dict[int, float] = Field(default_factory=lambda: {1: 1.0}, min_length=1)
    tokens_of: str | None = None
    latency_ms: Latency | None = None
    interruptible: Chance
    deadline: Sometimes | None = None
    checkpoint_s: Sometimes | None = None
    data: Data | None = None


class Gpu(Fitted):
    """A type of GPU, by the name that fleets have for it; `priced_as`: by which listings have it."""

    priced_as: str
    memory_gb: Positive
    liked: Chance


class Gangs(Fitted):
    """Training over more than one node."""

    chance: Chance
    gpus: dict[int, float]


class Habits(Fitted):
    """How customers differ."""

    active_in_family: Positive
    favourite_model: Chance
    leaves_gpu_open: Chance
    states_tokens: Chance
    states_type: Chance
    states_wrong_type: Chance
    price_sigma: float = Field(ge=0, le=2)
    estimate_sigma: float = Field(ge=0, le=2)


class Tiers(Fitted):
    """Shares of tiers."""

    heavy: dict[str, float]
    others: dict[str, float]


class Mining(Fitted):
    """Orders for hashrate."""

    duration_h: Lognormal
    miners: Lognormal
    most_miners: int = Field(ge=1)
    th_per_s_of_a_miner: Positive


class Assumed(Fitted):
    """The whole file."""

    peak_hour_utc: float = Field(ge=0, lt=24)
    course_of_short_traces: str
    regions: dict[str, float]
    gpus: dict[str, Gpu]
    inference_gb_per_billion: Positive
    training_gb_per_billion: Positive
    decode_tokens_per_s: Positive
    prefill_tokens_per_s: Positive
    gangs: Gangs
    tiers: Tiers
    habits: Habits
    mining: Mining
    families: dict[str, Kind]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        shares: dict[str, Any] = {"families' shares": [kind.share for kind in self.families.values()]}
        shares |= {"regions": self.regions.values(), "gpus' liked": [gpu.liked for gpu in self.gpus.values()]}
        shares |= {"tiers.heavy": self.tiers.heavy.values(), "tiers.others": self.tiers.others.values()}
        for name, parts in shares.items():
            if abs(sum(parts) - 1.0) > 1e-6:
                raise ValueError(f"{name} add up to {sum(parts):g}, not to 1")
        lost = [str(kind.tokens_of) for kind in self.families.values() if kind.tokens_of not in (None, *self.families)]
        if lost:
            raise ValueError(f"tokens_of names families that are not there: {', '.join(lost)}")
        bare = [name for name, kind in self.families.items() if name != MINING and not kind.models]
        if bare:
            raise ValueError(f"families without models: {', '.join(bare)}")
        return self


def load(path: Path = PATH) -> Assumed:
    """The assumptions of a file.

    Raises:
        AssumedError: it can't be read or does not hold together.
    """
    try:
        return Assumed.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise AssumedError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise AssumedError(f"{path}: {error}") from error
