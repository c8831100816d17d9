"""A model of your own: learnt, tried, compared, kept, promoted with a reason, taken back. docs/ml-guide.md leads through it."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.conformal import conformal_shifts
from hcp_pipelines.forecasting.learnable.compare import Comparison, compare
from hcp_pipelines.forecasting.learnable.fitted import FittedQuantiles, found_of
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import HORIZONS_H, Learning, columns_of, lesson
from hcp_pipelines.forecasting.learnable.protocol import LAST, LEVELS, Examples, Model
from hcp_pipelines.forecasting.learnable.rolling import rolling
from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.forecasting.trees import Trees
from hcp_pipelines.orchestration.training.lessons import read_lessons
from hcp_pipelines.orchestration.training.targets import target_of
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models, postgres, roles


@dataclass(frozen=True)
class MedianTrees:
    """Boosted trees for the median alone; each quantile is that, moved by what was missed on the newest weeks."""

    trees: int = 60
    name: str = "median_trees"

    def fit(self, examples: Examples, until: datetime, seed: int = 0) -> FittedQuantiles:
        """Learn from what was known before `until`."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        found = lesson(examples, until, Framing(LAST), Learning(), seed)
        columns, held = columns_of(found.examples), found.is_held
        grown = HistGradientBoostingRegressor(loss="absolute_error", max_iter=self.trees, random_state=seed)
        trees = (Trees.of(grown.fit(found.rows(columns)[~held], found.learnt[~held])),) * len(LEVELS)
        medians = found_of(trees, columns, found.examples.only(held), len(LEVELS))
        shifts = conformal_shifts(medians, found.learnt[held], found.horizon[held], LEVELS, len(HORIZONS_H))
        return FittedQuantiles(self.name, until, LEVELS, Framing(LAST), shifts, trees, columns, asdict(self))


def main(settings: Settings, name: str, now: datetime) -> tuple[Comparison, int, int]:
    """The whole way: how it compares, its version, and the one that serves in the end, which is the baseline's again."""
    with postgres.connect(settings, roles.Role.CONTROL) as connection:
        if models.champion(connection, name):
            raise ConfigError(f"{name} has a champion: try this on a state directory of its own")
        target, weeks = target_of(name), (now - timedelta(days=28), now)
        examples = read_lessons(settings, target, (now - timedelta(days=90), now)).examples
        baseline, own = target.models[0], MedianTrees()
        found = compare(rolling(examples, own, weeks).forecasts, rolling(examples, baseline, weeks).forecasts)

        def keep(model: Model, status: models.Status) -> int:
            learnt = model.fit(examples, now).to_bytes()
            made = models.Kept(name, digest_of(learnt), learnt, now, now, {})
            return models.keep(connection, made, status, "ann", "an example")

        _, version = keep(baseline, "champion"), keep(own, "challenger")
        models.promote(connection, name, version, "ann", f"{found.ratio:.2f} times the loss", {"p": found.p_value})
        return found, version, models.roll_back(connection, name, "ann", "an example only")[1]
