"""A kept model's bytes read again, whatever kind it is: checked by digest, plain arrays, no code, no scikit-learn."""

from collections.abc import Callable, Mapping

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.learnable import blend, fitted
from hcp_pipelines.forecasting.learnable.protocol import Fitted
from hcp_pipelines.forecasting.model_file import unpacked

READERS: Mapping[str, Callable[[bytes, str], Fitted]] = {
    fitted.KIND: fitted.FittedQuantiles.from_bytes,
    blend.KIND: blend.FittedBlend.from_bytes,
}


def read(kept: bytes, digest: str) -> Fitted:
    """The model of some bytes that have a SHA-256 digest.

    Raises:
        ModelError: other bytes than were kept, too many, of an unknown kind, or not what a model of its kind is.
    """
    about, _ = unpacked(kept, digest, {})
    kind = str(about.get("kind")) if isinstance(about, dict) else ""
    if kind not in READERS:
        raise ModelError(f"it is of kind {kind!r}: this version reads {', '.join(READERS)}")
    return READERS[kind](kept, digest)
