"""Hashprice, break-even, margins, decision price: pure functions."""
