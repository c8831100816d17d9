"""What work says that its devices are to run, as a gateway takes it. Whether it fits them is told by `gpu_types`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hcp_pipelines.wire.work import GPUS_EACH_MAX, LOADS, MODEL_MAX, TEXT_MAX, WEIGHTS_MAX_GIB


@dataclass(frozen=True, slots=True)
class Runs:
    """What a workload's devices are to run (`runs_of`); `checkpoint`: that it goes on from, empty: none."""

    model: str = ""
    weights_gib: float = 0.0
    gpus_each: int = 1
    load: str = "cold"
    checkpoint: str = ""


NOTHING_SAID = Runs()


def runs_of(spec: Mapping[str, Any], checkpoint: str) -> Runs:
    """What its devices are to run: the model's name, and `weights_gib`, `gpus_each` and `load` of the `sla_parameters`.

    All of it as a gateway takes it: a name's first hundred characters, those that can't be printed as `?`; a word that makes no
    sense is none.
    """
    said, usual = spec.get("sla_parameters") or {}, NOTHING_SAID
    return Runs(
        _plain(spec.get("model_name") or "", MODEL_MAX),
        _number(said.get("weights_gib"), WEIGHTS_MAX_GIB, usual.weights_gib),
        int(_number(said.get("gpus_each"), GPUS_EACH_MAX, 0)) or usual.gpus_each,
        said["load"] if said.get("load") in LOADS else usual.load,
        _plain(checkpoint, TEXT_MAX),
    )


def _plain(text: str, most: int) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text[:most])


def _number(said: object, most: float, usual: float) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return usual
    return float(said) if 0 < said <= most else usual
