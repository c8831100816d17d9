"""What the text of a specification speaks of: the kind of a model by its name, words of a class, sizes that a name tells.

Tables of names that are in use; a name that stands in none is of no kind, which is no error. Every pattern is read in one pass.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

KINDS: Final[Mapping[str, str]] = {  # of models, by parts of their names; the first that fits
    "code": r"coder?\b|code-?llama|starcoder|codestral|devstral|copilot|codegen",
    "image": r"diffusion|sdxl|flux|dall-?e|imagen|midjourney|kandinsky|pixart|playground-v|hunyuan(?:dit|video)|wan2|svd|lora-xl",
    "embedding": r"\bbge|embed|\be5\b|\bgte\b|minilm|sentence-t|rerank|colbert|bert",
    "speech": r"whisper|wav2vec|parakeet|canary|\btts\b|seamless|bark\b|xtts",
    "recommender": r"dlrm|wide-?(?:and-?)?deep|recsys|recommend|two-?tower|deepfm|\bdcn\b|sasrec|ranker|\bctr\b",
    "vision": r"\bvit\b|resnet|yolo|\bsam2?\b|clip\b|efficientnet|dino|segment|detr|unet",
    "language": r"llama|\bgpt|mi[sx]tral|qwen|gemma|\bphi-?\d|deepseek|falcon|command-?r|olmo|\byi-|glm|granite|nemotron|"
    r"vicuna|kimi|claude|\bopt-|bloom|mpt-|chat|instruct|\bllm\b",
}
CLASS_WORDS: Final[Mapping[str, str]] = {  # what people call work, in names and labels
    "training": r"train|fine-?tun|\bsft\b|\bdpo\b|\brlhf\b|\bgrpo\b|\bq?lora\b|distil|epoch|\bfsdp\b|deepspeed|megatron|"
    r"hyper-?param|sweep|\boptimi[sz]er|learning-rate|gradient",
    "batch": r"batch|offline|nightly|backfill|bulk|\betl\b|transcri|\beval|score-all|overnight|archive|corpus|dataset|"
    r"embed-all|generate-all|\breport|index",
    "realtime": r"real-?time|online|\bserv(?:e|ing|er)\b|interactive|live\b|stream|\bchat-?(?:bot|ui|api)?\b|assistant|endpoint|"
    r"autocomplete|copilot|\bapi\b|user-facing|\bvoice|frontend|\bp9\d\b",
    "mining": r"\bmin(?:e|er|ers|ing)\b|hash-?_?rate|\basic\b|antminer|whatsminer|avalon|\bs(?:19|21)\b|sha-?256|stratum|bitcoin|"
    r"\bbtc\b|\bph-day\b|th-per-s",
}
_KIND: Final = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in KINDS.items()))
_CLASS: Final = {name: re.compile(pattern) for name, pattern in CLASS_WORDS.items()}
_SIZE: Final = re.compile(r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)(b|m)(?![a-z0-9])")
_BILLION: Final = {"b": 1.0, "m": 0.001}


def plain(text: str) -> str:
    """Text as the tables know it.

    >>> plain("Meta/Llama_3 Instruct")
    'meta-llama-3-instruct'
    """
    return text.lower().translate(_PLAIN)


_PLAIN: Final = str.maketrans({"_": "-", " ": "-", "/": "-", ".": ".", ":": "-"})


def kind_of(name: str) -> str | None:
    """The kind of a model, by its plain name.

    >>> kind_of("qwen2.5-coder-32b"), kind_of("flux.1-dev"), kind_of("ours")
    ('code', 'image', None)
    """
    found = {match.lastgroup for match in _KIND.finditer(name)}
    return next((kind for kind in KINDS if kind in found), None)


def spoken_of(text: str) -> dict[str, str]:
    """The first word of each class that plain text speaks of.

    >>> spoken_of("nightly-embeddings")
    {'batch': 'nightly'}
    """
    return {name: match[0] for name, pattern in _CLASS.items() if (match := pattern.search(text))}


def billions_in(name: str) -> float | None:
    """Billions of parameters that a plain name tells.

    >>> billions_in("llama-3.1-70b"), billions_in("mixtral-8x7b"), billions_in("v3")
    (70.0, 56.0, None)
    """
    match = _SIZE.search(name)
    if match is None:
        return None
    return float(match[1] or 1) * float(match[2]) * _BILLION[match[3]] or None


def number_in(text: str) -> float | None:
    """A positive number that a label tells; None for any other text.

    >>> number_in("8"), number_in("1e999"), number_in("many")
    (8.0, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
