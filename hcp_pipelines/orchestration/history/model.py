"""What a good row of a lake table is: columns, bounds, what must be unique, rules over several columns. Validates nothing itself.

No pandera here, which takes two seconds to import: `audit` makes its schemas of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

INSTANT = pl.Datetime("us", "UTC")
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
