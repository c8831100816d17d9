"""The model that serves, read once and again where another one does: what asks a forecast of a champion asks it here."""

from dataclasses import dataclass
from typing import Any

import psycopg

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.learnable.files import read
from hcp_pipelines.forecasting.learnable.protocol import Fitted
from hcp_pipelines.storage import models


@dataclass(frozen=True)
class Served:
    """A version that was read and checked."""

    serving: models.Serving
    fitted: Fitted

    @property
    def model(self) -> str:
        """Name and version, as tables have it: `capacity/3`."""
        return f"{self.serving.name}/{self.serving.version}"


class Champion:
    """A name's champion. Each `get` asks who serves, one row by an index; its bytes are read where that has changed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._served: Served | None = None

    def get(self, connection: "psycopg.Connection[Any]") -> Served | None:
        """The champion as it is now; None where none has been promoted.

        Raises:
            ModelError: its bytes are not those that were promoted, or no model.
        """
        serving = models.champion(connection, self._name)
        if serving is None:
            self._served = None
        elif self._served is None or self._served.serving != serving:
            self._served = served(connection, serving)
        return self._served


def served(connection: "psycopg.Connection[Any]", serving: models.Serving) -> Served:
    """A version, read and checked.

    Raises:
        ModelError: its bytes are not those that were kept, or no model; the message names the version.
    """
    try:
        return Served(serving, read(models.artefact(connection, serving), serving.digest))
    except ModelError as error:
        raise ModelError(f"{serving.name} {serving.version}: {error}") from error
