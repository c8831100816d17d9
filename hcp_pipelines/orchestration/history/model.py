"""What a good row of a lake table is: columns, bounds, what must be unique, rules over several columns. Validates nothing itself.

No pandera here, which takes two seconds to import: `audit` makes its schemas of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The rows of one table.

    Columns that are not named in `nullable` are never null, nor NaN. `bounds` are inclusive. `rules` are claims over a row, by
    what is said where they do not hold.
    """

    columns: Mapping[str, Any]
    unique: tuple[str, ...] = ()
    nullable: frozenset[str] = frozenset()
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    rules: Mapping[str, pl.Expr] = field(default_factory=dict)
    is_whole: bool = True  # no other columns

    def believed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that a reader takes, whoever wrote them: in bounds, by the rules, and the only one of their key.

        The audit stands before what is published by the platform's own runs; this stands before what anybody wrote.
        """
        good = rows.filter(self._holds())
        return good.filter(pl.struct(self.unique).is_unique()) if self.unique else good

    def _holds(self) -> list[pl.Expr]:
        given = [pl.col(name).is_not_null() for name in self.columns if name not in self.nullable]
        bounded = [pl.col(n).is_between(low, high) | pl.col(n).is_null() for n, (low, high) in self.bounds.items()]
        return [*given, *bounded, *(claim.fill_null(value=False) for claim in self.rules.values())]
