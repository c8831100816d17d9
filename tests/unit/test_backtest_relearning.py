"""Learning anew inside a window: when, who decides from then on, and that the state goes on."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hindsight import TrainedTooLateError
from hcp_pipelines.optimizer import waiting
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.relearning import Relearnt
from hcp_pipelines.optimizer.backtest.request import Relearn, Request, refuse_unclear
from hcp_pipelines.optimizer.backtest.run import result_of
from hcp_pipelines.optimizer.backtest.strategies import BreakEven, Hysteresis, Oracle
from tests.support.recorded import DAY, plain_case, random_prices, write_folder


def utc(*when):
    return datetime(*when, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "how", "anew"),
    [
        (utc(2024, 11, 1), utc(2025, 2, 1), Relearn.MONTH, [utc(2024, 12, 1), utc(2025, 1, 1)]),
        (utc(2024, 11, 17, 6), utc(2025, 1, 2), Relearn.MONTH, [utc(2024, 12, 1), utc(2025, 1, 1)]),
        (utc(2024, 12, 1), utc(2025, 6, 1), Relearn.QUARTER, [utc(2025, 3, 1)]),
        (utc(2024, 12, 2), utc(2024, 12, 30), Relearn.MONTH, []),
    ],
)
def test_months_turn_at_midnight_and_the_end_is_not_learnt_from(start, end, how, anew):
    request = Request(Sources(None), start, end, relearn=how)
    assert request.learnt_at == (start, *anew)
    refuse_unclear(request)
    with pytest.raises(ConfigError, match="leave one of them out"):
        refuse_unclear(replace(request, train_until=start))


def test_without_being_asked_it_learns_once():
    start = utc(2024, 11, 1)
    early = Request(Sources(None), start, utc(2025, 2, 1), train_until=start - timedelta(days=3))
    assert early.learnt_at == (early.train_until,)


def edition(wake, sleep, at):
    return at, Hysteresis(wake, sleep, trained_until=at)


def test_each_edition_decides_from_its_instant_on():
    case = plain_case(random_prices(96 * 9))
    ends = [DAY + timedelta(days=d) for d in (0, 3, 7)]
    bands = [(0.0, 0.1), (0.2, 0.3), (0.5, 0.8)]
    strikes = Relearnt(tuple(edition(*band, at) for band, at in zip(bands, ends, strict=True))).strikes(case)
    whole = [Hysteresis(*band).strikes(case) for band in bands]
    day = np.arange(len(case)) // 96
    wanted = np.where(day < 3, whole[0].off, np.where(day < 7, whole[1].off, whole[2].off))
    assert strikes.off.tobytes() == wanted.tobytes()
    assert len(strikes.on) == len(case)


def test_the_state_is_carried_over_where_it_learns_anew():
    """Asleep as the month turns, it stays asleep inside the band: a window that started anew would be on for nothing."""
    prices = np.r_[np.full(96, 30.0), np.full(96, 200.0), np.full(96, 58.0)]
    case = plain_case(prices, revenue=60.0, wake_usd=12.0)
    halves = Relearnt((edition(0.5, 0.5, DAY), edition(0.5, 0.5, DAY + timedelta(days=2))))
    result = result_of(case, DAY, [BreakEven(), halves, Oracle()])
    assert result.schedules["hysteresis"].is_on.tolist() == [True] * 96 + [False] * 192
    assert result.accounts["hysteresis"].wakes == 0


def test_an_edition_that_knows_what_it_is_to_decide_is_refused():
    case = plain_case(random_prices(96 * 9))
    late = DAY + timedelta(days=3), Hysteresis(trained_until=DAY + timedelta(days=4))
    with pytest.raises(TrainedTooLateError, match="hysteresis was trained until 2024-03-05"):
        Relearnt((edition(0.1, 0.4, DAY), late)).strikes(case)


@dataclass(frozen=True)
class LooksBack:
    """Its strikes say how long a history it was shown."""

    name: str = "mpc"
    is_guarded: bool = False
    trained_until: datetime | None = DAY

    def strikes(self, case):
        return replace(Hysteresis(0.0, 0.0).strikes(case), off=np.arange(float(len(case))))


def test_every_edition_sees_two_months_of_history():
    case = plain_case(random_prices(96 * 80))
    off = Relearnt(((DAY, LooksBack()), (DAY + timedelta(days=70), LooksBack()))).strikes(case).off
    assert off[: 96 * 70].tolist() == list(range(96 * 70))
    assert off[96 * 70] == 96 * 60


def test_the_command_says_when_it_learnt_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "BAG", 1)
    monkeypatch.setattr(waiting, "TREES", waiting.TREES | {"max_iter": 10, "min_samples_leaf": 20})
    write_folder(tmp_path, random_prices(96 * 70))
    arguments = [
        "backtest", "--point", "HB_TEST", "--json", "--prices", str(tmp_path), "--from", "2024-03-25", "--to", "2024-05-08",
        "--efficiency-j-per-th", "17.5", "--relearn", "month",
    ]  # fmt: skip
    told = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)
    assert any("learnt anew 2 times" in note and "2024-04-01, 2024-05-01" in note for note in told["notes"])
    assert told["relearn"] == "month"
    assert told["strategies"]["mpc"]["net_usd"] <= told["strategies"]["oracle"]["net_usd"]
    arguments[arguments.index("--from") + 1] = "2024-03-10"  # nine days are too little, three weeks in April are not
    told = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)
    assert told["notes"][-2:] == [
        "nothing to learn from before 2024-03-10: hysteresis has the policy's own band until 2024-04-01, mpc is left out of the "
        "whole window",
        "learnt anew 2 times in the window, from what was known by then, its state carried on: 2024-04-01, 2024-05-01",
    ]
    assert "mpc" not in told["strategies"]
