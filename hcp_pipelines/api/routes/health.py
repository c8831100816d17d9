"""Whether the API lives (`/health`), and whether it can answer (`/ready`): for load balancers and supervisors (GW-08)."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from hcp_pipelines.api.principals import ANYBODY
from hcp_pipelines.api.state import api_of

READY_WITHIN_S = 2.0
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
    async with api_of(request).connection(READY_WITHIN_S) as connection:
        await connection.execute("select 1")
    return Health(status="ok")
