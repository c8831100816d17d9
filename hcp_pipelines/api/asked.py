"""What an endpoint may be asked with: what it does not know is refused, since the answer would be one to another question.

A misspelt filter would list everything, a misspelt `days` make a key that never ends.
"""

from collections import Counter
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict

from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.wording import meant


class Body(BaseModel):
    """A request's body: nothing in it that is not described."""

    model_config = ConfigDict(extra="forbid")


def parameters_of(route: Any) -> frozenset[str]:
    """The names that an endpoint takes in its query, those of a model of them included."""
    names = set[str]()
    for one in route.dependant.query_params:
        shape = one.field_info.annotation
        is_model = isinstance(shape, type) and issubclass(shape, BaseModel)
        names |= set(shape.model_fields) if is_model else {one.alias}
    return frozenset(names)


def know_parameters(app: FastAPI, routes: list[Any]) -> None:
    """Keep what each endpoint takes, for `refuse_unknown`."""
    app.state.parameters = {route.endpoint: parameters_of(route) for route in routes}


def refuse_unknown(request: Request) -> None:
    """Raise where the query has a name that this endpoint does not take, or one twice.

    Raises:
        ProblemError: 400, with what it does take.
    """
    if not request.scope["query_string"]:
        return
    known: frozenset[str] = request.app.state.parameters[request.scope["endpoint"]]
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise ProblemError(400, f"query.{name[:40]}: there is no such parameter; {meant(name, known)}")
        if times > 1:
            raise ProblemError(400, f"query.{name}: it is given {times} times: give it once")
