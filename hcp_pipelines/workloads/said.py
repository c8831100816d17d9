"""Whether what a customer writes into `sla_parameters` is looked at by anybody (docs/scheduler.md), and whether it makes sense.

Any word may stand there; a misspelt limit to places would else be one that nobody keeps.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from hcp_pipelines.domain.spelling import nearest
from hcp_pipelines.wire.work import GPUS_EACH_MAX, LOADS, WEIGHTS_MAX_GIB
from hcp_pipelines.workloads.routing.needs import Colocation


def _text(said: object) -> bool:
    return isinstance(said, str) and bool(said.strip())


def _from(least: float, most: float) -> Callable[[object], bool]:
    return lambda said: isinstance(said, int | float) and not isinstance(said, bool) and least <= said <= most


def _one_of(words: frozenset[str]) -> Callable[[object], bool]:
    return lambda said: isinstance(said, str) and said in words


_KEPT: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "colocation": (_one_of(frozenset(Colocation)), f"one of {', '.join(Colocation)}"),
    "facility": (_text, "a facility's id"),
    "not_facility": (_text, "a facility's id"),
    "region": (_text, "a city or state"),
    "client_lat": (_from(-90, 90), "degrees, -90 to 90"),
    "client_lon": (_from(-180, 180), "degrees, -180 to 180"),
    "weights_gib": (_from(0, WEIGHTS_MAX_GIB), f"GiB, 0 to {WEIGHTS_MAX_GIB:g}"),
    "gpus_each": (_from(1, GPUS_EACH_MAX), f"GPUs, 1 to {GPUS_EACH_MAX}"),
    "load": (_one_of(frozenset(LOADS)), f"one of {', '.join(LOADS)}"),
}
_TOGETHER: Final = ("client_lat", "client_lon")


def nonsense_in(said: Mapping[str, Any]) -> str | None:
    """The first word that is looked at and can't be taken as it stands, with what can; None where there is none.

    >>> nonsense_in({"client_lat": 91.0, "client_lon": 0.0})
    'sla_parameters.client_lat: degrees, -90 to 90'
    >>> nonsense_in({"client_lat": 9.0})
    'sla_parameters.client_lon: it is missing beside client_lat'
    """
    for word, (makes_sense, wanted) in _KEPT.items():
        if word in said and not makes_sense(said[word]):
            return f"sla_parameters.{word}: {wanted}"
    there = [word for word in _TOGETHER if word in said]
    if len(there) == 1:
        missing = next(word for word in _TOGETHER if word not in said)
        return f"sla_parameters.{missing}: it is missing beside {there[0]}"
    return None


def misspelt_in(said: Mapping[str, Any]) -> list[str]:
    """Words that nobody looks at though they are nearly one that is.

    >>> misspelt_in({"facilty": "hou-1", "uptime": 0.999})
    ['sla_parameters.facilty decides nothing: is facility meant?']
    """
    strange = {word: nearest(word, _KEPT, 0.75) for word in said if word not in _KEPT}
    return [f"sla_parameters.{word} decides nothing: is {near} meant?" for word, near in strange.items() if near]
