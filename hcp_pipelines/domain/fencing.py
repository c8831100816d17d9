"""How far the numbers that fence may jump: epochs of owners, versions of lock lists. Pure.

A gateway takes small steps above what it knows, so that nobody exhausts the numbers or shuts the rightful owner out for ever. An
owner that finds its gateway ahead takes as large a step as catching up needs: after a hostile announcement, or when Postgres
was restored from a backup.
"""

JUMP_MAX = 1_000_000  # above the highest known, at the gateway: a month of takeovers every 3 s
CATCH_UP_MAX = (
    10**12
)  # by the owner at once, and for a gateway that knows nothing yet; 2**63 is nine million such steps away

HIGHEST = 2**63 - 2  # of a column of Postgres, and another can still be above it


def highest_taken(known: int) -> int:
    """The highest number that a gateway takes, given what it knows.

    >>> highest_taken(5), highest_taken(0)
    (1000005, 1000000000000)
    """
    return known + JUMP_MAX if known else CATCH_UP_MAX
