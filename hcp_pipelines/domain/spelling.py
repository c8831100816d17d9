"""What a misspelt word was most likely meant to be. How that is put to people is said where they are told."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """The known word that is written most like it; empty: none is. `likeness`, 0 to 1: how alike they must be.

    >>> nearest("stat", {"status", "limit"}), nearest("x", {"limit"})
    ('status', '')
    """
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=likeness)), "")
