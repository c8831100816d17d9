"""What was settled in the shape of the market's statement, and held against it."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.economics.settlement import MONEY
from hcp_pipelines.optimizer.settlement.statements import compared, read_statement, statement_of

AUTUMN, SPRING = date(2024, 11, 3), date(2024, 3, 10)
SCHEMA = {
    "start_at": INSTANT, "operating_day": pl.Date, "facility_id": pl.String, "kind": pl.String, "detail": pl.String,
    "quantity": pl.Float64, "usd": MONEY,
}  # fmt: skip
HEAD = "operating_day,statement,resource,charge_type,interval,amount_usd\n"


def lines(*rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def line(start, day, kind, detail, quantity, usd):
    return start, day, "hou-1", kind, detail, quantity, None if usd is None else Decimal(usd)


@pytest.mark.parametrize(("day", "begins", "hours"), [(AUTUMN, 5, 25), (SPRING, 6, 23)])
def test_intervals_are_counted_through_days_of_23_and_25_hours(day, begins, hours):
    start = datetime(day.year, day.month, day.day, begins, tzinfo=UTC)
    energy = [line(start + n * timedelta(minutes=15), day, "energy", None, 1.0, "-2.5") for n in range(hours * 4)]
    sold = [line(start + n * timedelta(minutes=15), day, "reserves", "ECRS", 0.5, "1.25") for n in range(hours * 4)]
    found = statement_of(lines(*energy, *sold))
    by_type = {name[0]: part for name, part in found.group_by("charge_type")}
    assert by_type["RTEIAMT"]["interval"].to_list() == list(range(1, hours * 4 + 1))
    assert by_type["PCECRAMT"]["interval"].to_list() == list(range(1, hours + 1))
    assert set(by_type["RTEIAMT"]["amount_usd"]) == {Decimal("2.5")}
    assert set(by_type["PCECRAMT"]["amount_usd"]) == {Decimal(-5)}


def test_what_is_no_business_of_the_market_s_is_not_there_and_what_has_no_price_has_no_amount():
    start = datetime(2024, 11, 3, 5, tzinfo=UTC)
    found = statement_of(
        lines(
            line(start, AUTUMN, "mining", "full", 3.0, "9"),
            line(start, AUTUMN, "reserves", "ERS-10", 1.0, "4"),
            line(start, AUTUMN, "reserves", "RRS", 1.0, "4"),
            line(start + timedelta(minutes=15), AUTUMN, "reserves", "RRS", 1.0, None),
        )
    )
    assert found.select("charge_type", "amount_usd").rows() == [("PCRRAMT", None)]
    assert statement_of(lines()).is_empty()


def test_the_newest_statement_counts_and_each_difference_is_told():
    text = HEAD + (
        "2024-11-03,INITIAL,hou-1,RTEIAMT,1,2.40\n2024-11-03,final,hou-1,RTEIAMT,1,2.505\n"
        "2024-11-03,FINAL,hou-1,RTEIAMT,2,2.52\n2024-11-03,FINAL,hou-1,MISCAMT,1,7\n"
    )
    start = datetime(2024, 11, 3, 5, tzinfo=UTC)
    ours = statement_of(
        lines(*(line(start + n * timedelta(minutes=15), AUTUMN, "energy", None, 1.0, "-2.5") for n in range(3)))
    )
    found = compared(ours, read_statement(text.encode(), "f"), 0.01)
    assert found.drop("operating_day", "resource").rows() == [
        ("MISCAMT", Decimal(7), Decimal(0), Decimal(7), 1, 1, 1, 0),
        ("RTEIAMT", Decimal("5.025"), Decimal("7.5"), Decimal("-2.475"), 3, 2, 0, 1),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no CSV"),
        ("a,b\n1,2\n", "no column operating_day"),
        (HEAD + "2024-11-03,FINAL,hou-1,RTEIAMT,0,1\n", "line 2"),
        (HEAD + "2024-11-03,FINAL,hou-1,RTEIAMT,1,1\n2024-11-03,FINAL,hou-1,RTEIAMT,x,1\n", "line 3"),
        (HEAD + "11/03/2024,FINAL,hou-1,RTEIAMT,1,1\n", "line 2"),
        (HEAD + "2024-11-03,LATEST,hou-1,RTEIAMT,1,1\n", "SHADOW, INITIAL, FINAL, TRUEUP"),
        (HEAD + 2 * "2024-11-03,FINAL,hou-1,RTEIAMT,1,1\n", "twice"),
    ],
)
def test_a_statement_that_is_none_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        read_statement(text.encode(), "f")
