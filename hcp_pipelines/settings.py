"""One frozen settings tree, read once per entry point from the environment (prefix HCP_) and passed down.

The only module that reads the environment. Unknown HCP_ names are refused by name, since a misspelt setting
that is silently ignored is worse than none.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.spelling import nearest

LAKE_URL = r"^$|^s3://[a-z0-9][a-z0-9.-]+(/[A-Za-z0-9._-]+)*$"
SOCKET_DIR_MAX_BYTES = 80  # the kernel refuses unix socket paths over 107 bytes


class Settings(BaseSettings):
    """Everything that can be set from outside; `HCP_STATE_DIR=/x` sets `state_dir`."""

    model_config = SettingsConfigDict(env_prefix="HCP_", frozen=True, extra="ignore")

    state_dir: Path = Field(default=Path(".hcp"), description="Where everything the platform writes lives.")
    database_url: SecretStr | None = Field(
        default=None, description="An external Postgres (superuser or createdb+createrole URL); embedded if unset."
    )
    secrets_dir: Path | None = Field(
        default=None, description="The roles' passwords, a file each.  Default: secrets of the state directory."
    )
    world: str = Field(default="sim", description="sim, replay:DIR, or real.")
    world_map: str = Field(default="", description="Settlement points to read as others in replay: HB_WEST=HB_HUBAVG,…")
    recorded_dir: Path | None = Field(
        default=None, description="Recorded series for Dagster's back-tests.  Default: DIR of replay:DIR."
    )
    scenario: str = Field(default="calm", description="Scenario of the simulated world.")
    markets_file: Path | None = Field(
        default=None, description="Accounts at the outside services of a real world (docs/markets.md)."
    )
    clouds: str = Field(
        default="aws:us-east-1,azure:eastus",
        description="Clouds whose GPU prices and availability the feed reads, PROVIDER:REGION with commas between; empty: none.",
    )
    openadr_file: Path | None = Field(
        default=None,
        description="Where the platform is enrolled for demand response (docs/openadr.md); nowhere if unset.",
    )
    seed: int = Field(default=7, description="Seed of the simulated world.")
    clock_speed: float = Field(default=60.0, gt=0, le=3600, description="Simulated seconds per real second.")
    devices: int = Field(default=2000, ge=3, le=1_000_000, description="Devices of the demo fleet.")
    facilities: int = Field(default=3, ge=1, le=200, description="Facilities of the demo fleet.")
    gateways: int = Field(default=1, ge=1, le=64, description="Gateway processes the facilities are spread over.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    otlp_endpoint: str | None = Field(default=None, description="Export traces there; none are exported if unset.")
    status_listen: str = Field(
        default="127.0.0.1:0",
        pattern=r"^[^\s:]+:[0-9]{1,5}$",
        description="Where a daemon answers /metrics and /healthz; a port of its own where each has a machine or a container.",
    )
    executor: Literal["in_process", "celery", "k8s"] = Field(
        default="in_process",
        description="Where Dagster's runs execute, but the tick's: here, by Celery workers, as Kubernetes jobs.",
    )
    celery_broker_file: Path | None = Field(
        default=None,
        description="A file whose content is the URL of Celery's broker.  Default: tables in Dagster's database.",
    )
    k8s_run_file: Path | None = Field(
        default=None,
        description="YAML: the configuration of dagster-k8s's K8sRunLauncher (image, namespace, account…).",
    )
    dagster_port: int = Field(default=3000, ge=1, le=65535, description="Port of the Dagster UI (loopback).")
    edge_tls: bool = Field(
        default=False, description="Gateways listen on loopback TCP with mutual TLS instead of unix sockets."
    )
    tls_dir: Path | None = Field(
        default=None, description="Certificates (`hcp tls init`).  Default: tls of the state directory."
    )
    api: Literal["off", "on"] = Field(default="off", description="Whether `hcp up` starts the HTTP API (docs/api.md).")
    api_listen: str = Field(
        default="",
        pattern=r"^$|^[^\s:]+:[0-9]{1,5}$",
        description="HOST:PORT of the API.  Default: 127.0.0.1:8080, or a free port where that is taken.",
    )
    api_profile: Literal["demo", "production"] = Field(
        default="demo", description="`production` refuses plain HTTP and generated passwords that were never changed."
    )
    api_certificate_file: Path | None = Field(default=None, description="The API's TLS certificate (PEM, chain).")
    api_certificate_key_file: Path | None = Field(default=None, description="That certificate's key, mode 0600.")
    api_cors_origins: str = Field(
        default="", description="Origins whose pages may call the API, with commas between; none if unset."
    )
    api_trusted_proxies: str = Field(
        default="",
        description="Networks, with commas between, whose X-Forwarded-For and Forwarded tell who asks the API; none if unset.",
    )
    api_token_s: float = Field(default=900, ge=60, le=86_400, description="How long a log-in's token is good, seconds.")
    api_url: str = Field(
        default="", description="Where `hcp workload` finds the API: https://HOST[:PORT].  Default: that of `hcp up`."
    )
    api_key_file: Path | None = Field(
        default=None, description="A file (0600) whose content is the API key that `hcp workload` asks with."
    )
    scheduler: Literal["off", "on"] = Field(
        default="off", description="Whether `hcp up` starts the scheduler of customers' work (docs/scheduler.md)."
    )
    scheduler_start_within_s: float = Field(
        default=3600,
        gt=0,
        description="Work whose devices are not ready so soon is retried elsewhere, simulated seconds.",
    )
    scheduler_saved_within_s: float = Field(
        default=300,
        gt=0,
        description="Devices have so long to say that they have kept work that was to stand still, simulated seconds.",
    )
    scheduler_urgent_slack_s: float = Field(
        default=900,
        ge=0,
        description="Others give way to work that would miss its deadline within this, simulated seconds.",
    )
    routing_weights: str = Field(
        default="0.3,0.3,0.2,0.2",
        pattern=r"^(0|0?\.[0-9]+|1(\.0*)?)(,(0|0?\.[0-9]+|1(\.0*)?)){3}$",
        description="What latency, cost, availability and profitability weigh in a place's score, 0-1 each.",
    )
    routing_base_latency_ms: float = Field(default=5.0, ge=0, description="Round trip to a facility next door.")
    routing_realtime_spare: float = Field(
        default=0.05, ge=0, le=1, description="Share of a group that serves real time which nothing else gets."
    )
    routing_cloud_start_s: float = Field(
        default=900,
        ge=0,
        description="Until rented GPUs of a cloud work, simulated seconds; overflow is only recorded.",
    )
    operator: str = Field(default="", description="The operator in whose name commands order; --as says it too.")
    operator_token_file: Path | None = Field(
        default=None, description="Their token, if not in secrets/operators/NAME.token of the state directory."
    )
    approval_mw: float = Field(
        default=1e9,
        gt=0,
        description="Changes above this need a second person; it is that of `hcp up`, whoever types an order.",
    )
    max_policy_jump_mw: float = Field(default=1e9, gt=0, description="Largest change a new policy may make at once.")
    bill_energy: Literal["charged", "included"] = Field(
        default="included",
        description="Whether customers have energy in their GPU rates, or pay it beside them (docs/billing.md).",
    )
    policy_expires_s: float = Field(default=6 * 3600, gt=0, description="Life of a policy, simulated seconds.")
    policy_refresh_s: float = Field(default=3600, gt=0, description="A policy older than this asks for a re-solve.")
    price_staleness_s: float = Field(default=900, gt=0, description="Newest power price older than this: hold.")
    btc_staleness_s: float = Field(default=7200, gt=0, description="Newest bitcoin price older than this: hold.")
    gpu_staleness_s: float = Field(
        default=7200,
        gt=0,
        description="No work pays the newest rate of a GPU older than this: it is not known, seconds.",
    )
    hold_s: float = Field(default=1800, gt=0, description="Hold this long, then the static fallback plan.")
    reserve_offers: Literal["off", "on"] = Field(
        default="off",
        description="Whether reserves to offer are worked out once an hour of the world (docs/decisions.md).",
    )
    expected_work: Literal["off", "q50", "q75", "q90", "q95"] = Field(
        default="q95",
        description="Which quantile of the demand forecast GPUs are kept for (docs/decisions.md); off: the fixed share alone.",
    )
    history_gaps: Literal["observe", "request"] = Field(
        default="request", description="Days of history that are missing are requested, or only named (observe)."
    )
    pool_url: str = Field(
        default="",
        pattern=r"^$|^world$|^https://[^/?#@\s]+$|^http://(127\.[0-9.]+|localhost)(:[0-9]{1,5})?$",
        description="Statistics of the mining pool (docs/pool.md): https://HOST, world for the simulated one; none if unset.",
    )
    pool_token_file: Path | None = Field(default=None, description="A file whose content is their token.")
    switch_log: Literal["off", "on"] = Field(
        default="off",
        description="Whether the collector reads switches of what ran from gateways' logs, each 30 s (`fct_switch_phases`).",
    )
    lake_raw_max_gb: float = Field(default=20.0, gt=0, description="Size bound of raw telemetry in the lake.")
    lake_url: str = Field(
        default="",
        pattern=LAKE_URL,
        description="The lake's files: s3://BUCKET/PREFIX; `lake` of the state directory if unset.",
    )
    lake_s3_endpoint: str = Field(
        default="", pattern=r"^$|^https?://[^/?#@]+$", description="Of a store that isn't AWS's: https://HOST:PORT."
    )
    lake_s3_region: str = Field(default="us-east-1", description="The store's region.")
    lake_s3_key_id: str = Field(default="", description="Key of the store; the machine's own (AWS's chain) if unset.")
    lake_s3_secret: SecretStr | None = Field(default=None, description="That key's secret; a file is better.")
    lake_s3_secret_file: Path | None = Field(default=None, description="A file whose content is that key's secret.")
    lake_s3_ca_file: Path | None = Field(
        default=None, description="Who signed the store's certificate (PEM).  Default: the system's authorities."
    )
    models_kept: int = Field(
        default=12, ge=2, le=1000,
        description="Newest versions of each model whose bytes, files in MLflow and shadow rows stay; of others the evidence.",
    )  # fmt: skip
    mlflow_artifacts: str = Field(
        default="",
        pattern=LAKE_URL,
        description="Files of trained models: s3://BUCKET/PREFIX of the lake's store; `mlflow` of the state directory if unset.",
    )

    alert_platform: str = Field(default="hcp", description="What this platform is called in alerts.")
    alert_webhook_url: SecretStr | None = Field(default=None, description="Alerts are POSTed there as JSON (https).")
    alert_webhook_secret_file: Path | None = Field(
        default=None, description="A file whose content signs the webhook's body (HMAC-SHA256)."
    )
    alert_email_to: str = Field(default="", description="Addresses that alerts are mailed to, with commas between.")
    alert_email_from: str = Field(default="", description="The sender of those mails.")
    smtp_url: SecretStr | None = Field(
        default=None, description="The mail server: smtp://LOGIN:PASSWORD@HOST:587 (STARTTLS) or smtps://…:465."
    )
    alert_repeat_s: float = Field(
        default=3600, ge=10, description="An open alert that nobody acknowledged is told again so often, real seconds."
    )
    alert_heartbeat_url: SecretStr | None = Field(
        default=None, description="POSTed to while all is watched; its silence is the alarm (dead man's switch)."
    )
    alert_heartbeat_s: float = Field(default=60, ge=1, description="Real seconds between two heartbeats.")

    @field_validator("recorded_dir", "markets_file", "openadr_file")
    @classmethod
    def _from_where_hcp_is_called(cls, value: Path | None) -> Path | None:
        return value.resolve() if value else None

    @field_validator("world")
    @classmethod
    def _world_is_known(cls, value: str) -> str:
        if value in ("sim", "real") or (value.startswith("replay:") and len(value) > len("replay:")):
            return value
        raise ValueError(f"{value!r} is not a world: use sim, replay:DIR or real")

    @model_validator(mode="before")
    @classmethod
    def _real_time_by_default(cls, values: Any) -> Any:
        """A real world runs at speed 1 without anybody saying so."""
        if isinstance(values, dict) and values.get("world") == "real":
            return {"clock_speed": 1.0} | values
        return values

    @field_validator("clock_speed")
    @classmethod
    def _real_time_is_real(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("world") == "real" and value != 1:
            raise ValueError("a real world runs at speed 1: leave it out")
        return value

    @property
    def replay_dir(self) -> Path | None:
        """The folder of recorded series, or None."""
        return Path(self.world.removeprefix("replay:")).resolve() if self.world.startswith("replay:") else None

    def at(self, *parts: str) -> Path:
        """A path below the state directory."""
        return self.state_dir.resolve().joinpath(*parts)

    def socket_dir(self) -> Path:
        """Where unix sockets live: `run/` of the state directory, or a short private stand-in where that is too long."""
        own = self.at("run")
        if len(str(own)) <= SOCKET_DIR_MAX_BYTES:
            return own
        digest = hashlib.sha256(str(own).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"hcp-{os.getuid()}-{digest}"

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; keyword arguments that are not None win.

        Raises:
            ConfigError: an unknown HCP_ name or a value out of bounds; the message names it.
        """
        refuse_unknown_names(os.environ)
        try:
            return cls(**{k: v for k, v in overrides.items() if v is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = "HCP_" + "_".join(str(p) for p in first["loc"]).upper()
            raise ConfigError(f"{name}={first.get('input')!r}: {first['msg']}. See docs/settings.md.") from error


# Set by the supervisor for its children, not by people; they are not in the tree above.
INTERNAL_NAMES = frozenset(
    """
    HCP_PROCESS_NAME HCP_DAGSTER_POSTGRES_URL HCP_CELERY_BROKER HCP_CELERY_RESULTS
    HCP_LAKE_ATTACH HCP_LAKE_DATA_PATH HCP_LAKE_STORE_SCOPE HCP_LAKE_STORE_REGION
    HCP_LAKE_STORE_ENDPOINT HCP_LAKE_STORE_URL_STYLE HCP_LAKE_STORE_USE_SSL HCP_LAKE_STORE_CA_FILE
    """.split()  # noqa: SIM905 - a list of names
)


def refuse_unknown_names(environment: Mapping[str, str]) -> None:
    """Raise ConfigError for the first HCP_ variable that no setting has, with the nearest name."""
    known = {"HCP_" + name.upper() for name in Settings.model_fields} | INTERNAL_NAMES
    for name in sorted(environment):
        if name.startswith("HCP_") and name.upper() not in known:
            near = nearest(name.upper(), known)
            hint = f" Did you mean {near}?" if near else ""
            raise ConfigError(f"{name} is not a setting of HCP.{hint} docs/settings.md lists them all.")


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment for a child process: ours, with every setting made explicit, and `extra`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HCP_")}
    for name, value in settings.model_dump().items():
        if value is None:
            continue
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        env["HCP_" + name.upper()] = text
    env["HCP_STATE_DIR"] = str(settings.state_dir.resolve())
    env.update(extra)
    return env


def environment_value(name: str, default: str = "") -> str:
    """One variable of the environment, for the few libraries configured by it."""
    return os.environ.get(name, default)


def keep_mlflow_at_home() -> None:
    """Tell MLflow, before it is imported, to call nobody: it reads that from the environment alone."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_LOGGING_LEVEL="WARNING")
