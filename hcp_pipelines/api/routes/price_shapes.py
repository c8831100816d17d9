"""What the economic endpoints take and answer."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from hcp_pipelines.api.asked import Body

PriceType = Literal["electricity", "btc", "network", "gpu_spot", "grid_signal", "weather"]
PricedType = Literal["electricity", "btc", "gpu_spot"]
WorkloadType = Literal["ai_inference_realtime", "ai_inference_batch", "bitcoin_mining", "model_training"]


class Price(BaseModel):
    """EC-06. `timestamp` is world time; a revision above 0 corrects an earlier value of the same instant."""

    id: int = Field(examples=[90211])
    stream: str = Field(examples=["power.rt_lmp"])
    series: str = Field(examples=["HB_HOUSTON"], description="Settlement point, exchange, GPU type.")
    timestamp: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    price_type: PriceType = Field(examples=["electricity"])
    value: float = Field(examples=[31.25])
    unit: str = Field(examples=["USD/MWh"])
    source: str = Field(examples=["ERCOT"])
    region: str = Field(examples=["HB_HOUSTON"])
    quality: str = Field(examples=["good"])
    revision: int = Field(examples=[0])
    metadata: dict[str, Any] = Field(examples=[{}])


class CurrentPrices(BaseModel):
    """EC-22: the newest actionable value of each series."""

    timestamp: datetime = Field(examples=["2026-01-05T12:00:30Z"], description="The world's time.")
    prices: list[Price]


class PriceHistory(BaseModel):
    """EC-23: ascending; of each instant the newest revision, nothing absurd."""

    items: list[Price]
    next: str | None = Field(examples=["WyIyMDI2LTAxLTA1VDEyOjAwOjAwKzAwOjAwIiw5MDIxMV0"])


class Score(BaseModel):
    """EC-10. Dollars are per hour, of the whole group."""

    resource_id: str = Field(examples=["hou-1/h100"])
    workload_type: WorkloadType = Field(examples=["ai_inference_batch"])
    score: float = Field(ge=0, le=100, examples=[97.1], description="The margin, percent.")
    expected_revenue: float = Field(examples=[180.4])
    estimated_cost: float = Field(examples=[5.2])
    net_profit: float = Field(examples=[175.2])
    usd_per_mwh: float = Field(examples=[1105.0], description="Net profit per MWh of site power: the ranking.")
    confidence: float = Field(ge=0, le=1, examples=[0.85])
    recommendation: Literal["allocate", "hold", "switch"] = Field(examples=["allocate"])


class Scores(BaseModel):
    """A group's scores, one for each kind of work that it can do."""

    timestamp: datetime = Field(
        examples=["2026-01-05T12:00:00Z"], description="World time of the tick they were made for."
    )
    items: list[Score]


class Calculate(Body):
    """EC-25."""

    resource_id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}/[a-z0-9][a-z0-9-]{0,40}$", examples=["hou-1/h100"])
    workload_type: WorkloadType = Field(examples=["ai_inference_batch"])


class Statistics(BaseModel):
    """EC-19 and EC-20, of a series in its own unit. Volatility: the deviation of steps, of logarithms but for power (ER-14)."""

    series: str = Field(examples=["HB_HOUSTON"])
    stream: str = Field(examples=["power.rt_lmp"])
    count: int = Field(examples=[8640])
    mean: float = Field(examples=[34.1])
    median: float = Field(examples=[27.9])
    std: float | None = Field(examples=[41.0])
    min: float = Field(examples=[-12.5])
    max: float = Field(examples=[1204.0])
    p25: float = Field(examples=[21.3])
    p75: float = Field(examples=[38.8])
    p95: float = Field(examples=[88.0])
    volatility: float | None = Field(examples=[9.7])


class StatisticsOfType(BaseModel):
    """By stream and series."""

    start: datetime = Field(examples=["2025-12-06T12:00:00Z"])
    end: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    items: list[Statistics]


class Decision(BaseModel):
    """EC-18, EC-21: what was recommended for a group, and what it did."""

    id: int = Field(examples=[310])
    timestamp: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    facility_id: str = Field(examples=["hou-1"])
    resource_id: str = Field(examples=["hou-1/s21"])
    resource_type: str = Field(examples=["ASIC"])
    recommended_workload: str = Field(examples=["curtailed"])
    actual_workload: str = Field(examples=["bitcoin_mining"])
    devices: int = Field(examples=[220])
    expected_profit: float = Field(examples=[-12.4], description="$/h at the decision price.")
    actual_profit: float | None = Field(examples=[None], description="$/h as settled; null until then.")
    tick_id: int | None = Field(examples=[90211])
    policy_id: int | None = Field(examples=[17])


class Decisions(BaseModel):
    """Newest first."""

    items: list[Decision]
    next: str | None = Field(examples=["WyIyMDI2LTAxLTA1VDEyOjAwOjAwKzAwOjAwIiwzMTBd"])


class PolicyHead(BaseModel):
    """A published policy without its body."""

    id: int = Field(examples=[17])
    facility_id: str = Field(examples=["hou-1"])
    basis_tick_id: int = Field(examples=[90100])
    solved_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    refresh_due_at: datetime = Field(examples=["2026-01-05T13:00:00Z"])
    expires_at: datetime = Field(examples=["2026-01-05T18:00:00Z"])
    inventory_generation: int = Field(examples=[1])
    digest: str = Field(examples=["5d41402abc4b2a76b9719d911017c592"])
    run_id: str | None = Field(examples=["7f0c2f3e"], description="The Dagster run that made it.")
    is_admitted: bool | None = Field(examples=[True], description="By the owner; null where it hasn't said yet.")
    admission_reason: str = Field(examples=[""])


class PolicyHeads(BaseModel):
    """The newest of each facility."""

    items: list[PolicyHead]


class WholePolicy(PolicyHead):
    """A policy with its blocks, strikes, adders and couplings (docs/decisions.md)."""

    body: dict[str, Any] = Field(examples=[{"blocks": []}])


class Explained(BaseModel):
    """Why a facility does what it does: what `hcp explain --json` prints (docs/decisions.md)."""

    policy_id: int = Field(examples=[17])
    control_mode: str = Field(examples=["auto"])
    over_it: list[str] = Field(examples=[[]], description="What goes before the price.")
    explanation: dict[str, Any] = Field(examples=[{"facility_id": "hou-1", "price_usd_per_mwh": 31.2, "blocks": []}])
