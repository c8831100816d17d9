"""ERCOT's hubs and load zones by name. Resource nodes, of which there are about a thousand and which change, are not listed.

Source: ERCOT, "Settlement Points List and Electrical Buses Mapping" (report NP4-160-SG).
"""

from typing import Final

from hcp_pipelines.domain.spelling import nearest

HUBS: Final = ("HB_BUSAVG", "HB_HOUSTON", "HB_HUBAVG", "HB_NORTH", "HB_PAN", "HB_SOUTH", "HB_WEST")
LOAD_ZONES: Final = ("LZ_AEN", "LZ_CPS", "LZ_HOUSTON", "LZ_LCRA", "LZ_NORTH", "LZ_RAYBN", "LZ_SOUTH", "LZ_WEST")
_LISTED: Final = HUBS + LOAD_ZONES


def is_listed(point: str) -> bool:
    """Whether it is a hub or a load zone; a resource node is not.

    >>> [is_listed(point) for point in ("HB_NORTH", "LZ_WEST", "HB_NORHT", "SOLARA_ALL")]
    [True, True, False, False]
    """
    return point in _LISTED


def is_misspelt(point: str) -> bool:
    """Whether it is written as a hub or a load zone and is none.

    >>> [is_misspelt(point) for point in ("HB_NORHT", "hb_north", "LZ_EAST", "HB_NORTH", "SOLARA_ALL")]
    [True, True, True, False, False]
    """
    return point.upper().startswith(("HB_", "LZ_")) and point not in _LISTED


def nearest_point(point: str) -> str:
    """The hub or load zone that is written most like it; empty: none is.

    >>> nearest_point("HB_NORHT"), nearest_point("hb_west"), nearest_point("LZ_QQQQQQQQ")
    ('HB_NORTH', 'HB_WEST', '')
    """
    return nearest(point.upper(), _LISTED, 0.7)
