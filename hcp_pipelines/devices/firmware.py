"""The firmware versions that something is known of, by family: what a facility file may name as FAMILY@VERSION.

Versions without a date of their own are named after what is odd about them. What that is is in docs/protocols.md, what is done
about it in `miner.quirks`, how long they take in `settling`. A family that isn't here has no versions that anybody told apart.
"""

from collections.abc import Mapping
from typing import Final

from hcp_pipelines.devices.settling import family

VERSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "stock": ("2022-12", "2023-07", "2025-02", "2025-10", "blank-mode", "board-code", "no-joined"),
    "whatsminer": ("1", "2.0.4", "2023-01", "sparse"),
    "whatsminer-v3": ("closed-4028",),
    "luxos": ("2024-01", "estimate"),
}


def known_versions(firmware: str) -> list[str]:
    """The names that stand for the family of a firmware and for its versions.

    >>> known_versions("luxos@2099")
    ['luxos', 'luxos@2024-01', 'luxos@estimate']
    """
    name = family(firmware)
    return [name, *(f"{name}@{version}" for version in VERSIONS.get(name, ()))]
