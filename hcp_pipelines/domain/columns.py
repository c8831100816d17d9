"""Kinds of columns that tables have everywhere."""

import polars as pl

INSTANT = pl.Datetime("us", "UTC")
