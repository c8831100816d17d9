"""Whether the API lives (`/health`), and whether it can answer (`/ready`): for load balancers and supervisors (GW-08)."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from hcp_pipelines.api.principals import ANYBODY
from hcp_pipelines.api.state import api_of

router = APIRouter(tags=["health"], dependencies=[ANYBODY])


class Health(BaseModel):
    """What is said of the API."""

    status: Literal["ok"] = Field(examples=["ok"])


@router.get("/health")
async def health() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/ready")
async def ready(request: Request) -> Health:
    """The process answers and reaches Postgres; else 503."""
    await api_of(request).fetch("select 1")
    return Health(status="ok")
