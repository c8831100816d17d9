"""Where the real services are and who we are there: `HCP_MARKETS_FILE`, a YAML file (docs/markets.md); what each call carries.

Every service has its published address unless the file has another; those that want credentials are asked only where the file has
them. Secrets are files, read when a client is made. The pool and demand response have settings of their own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.markets import (
    aws,
    azure,
    binance,
    bitstamp,
    coinbase,
    ercot,
    gemini,
    gpu_listings,
    kraken,
    mempool,
    open_meteo,
)
from hcp_pipelines.markets.aws_signing import AwsAuth
from hcp_pipelines.markets.config_file import ConfigFile, read_config
from hcp_pipelines.markets.ercot_login import REAL_LOGIN_URL, ercot_auth
from hcp_pipelines.markets.tokens import KeyAuth, TokenAuth

AZURE_LOGIN_URL = "https://login.microsoftonline.com"
_HELP = "docs/markets.md describes the file."
_FILE = ConfigFile("HCP_MARKETS_FILE", 100_000, _HELP)
# Secrets go in clear over plain HTTP: to this machine only.
Url = Annotated[str, Field(pattern=r"^https://[^/?#@\s]+$|^http://(127\.[0-9.]+|localhost)(:[0-9]{1,5})?$")]


class Access(NamedTuple):
    """Where a service is, and what each call to it carries."""

    base_url: str | Callable[[], str]
    auth: httpx.Auth | None = None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ercot(_Strict):
    """A subscription to ERCOT's public API."""

    username: str = Field(min_length=1)
    password_file: Path
    subscription_key_file: Path
    base_url: Url = ercot.REAL_BASE_URL
    login_url: Url = REAL_LOGIN_URL


class PrimeIntellect(_Strict):
    """An account at Prime Intellect."""

    api_key_file: Path
    base_url: Url = gpu_listings.REAL_BASE_URL


class Amazon(_Strict):
    """An access key of Amazon's; `base_url` in place of the region's own."""

    key_id: str = Field(min_length=1)
    secret_key_file: Path
    base_url: Url | None = None
    pricing_url: Url = aws.REAL_PRICING_URL


class Azure(_Strict):
    """A subscription of Azure's, and an application that may read it."""

    subscription: str = Field(pattern=r"^[A-Za-z0-9-]+$")
    tenant: str = Field(pattern=r"^[A-Za-z0-9.-]+$")
    client_id: str = Field(min_length=1)
    client_secret_file: Path
    base_url: Url = azure.REAL_BASE_URL
    management_url: Url = azure.REAL_MANAGEMENT_URL
    login_url: Url = AZURE_LOGIN_URL


class Public(_Strict):
    """Services that anybody may ask, by their addresses."""

    coinbase: Url = coinbase.REAL_BASE_URL
    kraken: Url = kraken.REAL_BASE_URL
    bitstamp: Url = bitstamp.REAL_BASE_URL
    binance: Url = binance.REAL_BASE_URL
    gemini: Url = gemini.REAL_BASE_URL
    mempool: Url = mempool.REAL_BASE_URL
    open_meteo: Url = open_meteo.REAL_BASE_URL


class RealServices(_Strict):
    """The whole file."""

    version: Literal[1]
    ercot: Ercot | None = None
    primeintellect: PrimeIntellect | None = None
    aws: Amazon | None = None
    azure: Azure | None = None
    public: Public = Public()

    def missing(self) -> list[str]:
        """The services that want credentials and have none, with what is not asked for want of them."""
        wanted = {
            "ercot": "power prices, load, capacity", "primeintellect": "GPU rates", "aws": "Amazon's capacity",
            "azure": "Azure's capacity",
        }  # fmt: skip
        return [f"{name} ({what})" for name, what in wanted.items() if getattr(self, name) is None]

    def market(self, name: str, clock: Clock) -> Access | None:
        """A market's access by the name of its module; None: it wants an account and there is none.

        Raises:
            ConfigError: a secret can't be read.
        """
        if name == "ercot":
            return None if self.ercot is None else _ercot(self.ercot, clock)
        if name == "gpu_listings":
            return None if self.primeintellect is None else _prime_intellect(self.primeintellect)
        return self.anybody(name)

    def anybody(self, name: str) -> Access:
        """The access of a service that wants no account, by the name of its module."""
        return Access(str(getattr(self.public, name)))

    def amazon(self, region: str, clock: Clock) -> tuple[Access, Access] | None:
        """EC2 in a region and the price list, or None.

        Raises:
            ConfigError: a secret can't be read.
        """
        if self.aws is None:
            return None
        secret = read_secret("aws.secret_key_file", self.aws.secret_key_file)
        ec2, prices = (
            AwsAuth(self.aws.key_id, secret, where, service, clock)
            for where, service in ((region, "ec2"), (aws.PRICING_REGION, "pricing"))
        )
        return Access(self.aws.base_url or aws.REGION_URL.format(region), ec2), Access(self.aws.pricing_url, prices)

    def microsoft(self, clock: Clock) -> tuple[Access, Access, str] | None:
        """Azure's price list, its management API and the subscription, or None.

        Raises:
            ConfigError: a secret can't be read.
        """
        if self.azure is None:
            return None
        form: dict[str, str | SecretStr] = {
            "grant_type": "client_credentials",
            "client_id": self.azure.client_id,
            "client_secret": read_secret("azure.client_secret_file", self.azure.client_secret_file),
            "scope": f"{azure.REAL_MANAGEMENT_URL}/.default",
        }
        auth = TokenAuth(f"{self.azure.login_url}/{self.azure.tenant}/oauth2/v2.0/token", form, clock)
        return Access(self.azure.base_url), Access(self.azure.management_url, auth), self.azure.subscription


def services_of(world: str, path: Path | None) -> RealServices | None:
    """The real services of `HCP_WORLD=real`; None: a simulated world answers for all of them.

    Raises:
        ConfigError: the real ones are meant, and no file says who we are there, or not rightly.
    """
    if world != "real":
        return None
    if path is None:
        raise ConfigError(
            "HCP_WORLD='real': HCP_MARKETS_FILE is unset. It names the accounts at the outside services: ERCOT's user, password "
            f"and subscription key, Prime Intellect's, Amazon's and Azure's keys. {_HELP}"
        )
    return load_services(path)


def load_services(path: Path) -> RealServices:
    """Read and check the file; files of secrets are named from where it lies.

    Raises:
        ConfigError: it can't be read, is not YAML, or a field is wrong.
    """
    return read_config(_FILE, path, lambda told: RealServices.model_validate(_beside(path.parent, told)))


def read_secret(name: str, path: Path) -> SecretStr:
    """What a secret's file holds.

    Raises:
        ConfigError: it can't be read, or is empty.
    """
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {path} can't be read ({type(error).__name__}). {_HELP}") from error
    if not secret:
        raise ConfigError(f"{name}: {path} is empty. {_HELP}")
    return SecretStr(secret)


def _ercot(account: Ercot, clock: Clock) -> Access:
    password = read_secret("ercot.password_file", account.password_file)
    key = read_secret("ercot.subscription_key_file", account.subscription_key_file)
    return Access(account.base_url, ercot_auth(account.username, password, key, clock, account.login_url))


def _prime_intellect(account: PrimeIntellect) -> Access:
    key = read_secret("primeintellect.api_key_file", account.api_key_file)
    return Access(account.base_url, KeyAuth(key))


def _beside(folder: Path, document: object) -> object:
    """The document with the paths of its secrets from where the file lies."""
    if not isinstance(document, dict):
        return document
    return {
        name: str(folder / each) if isinstance(each, str) and str(name).endswith("_file") else _beside(folder, each)
        for name, each in document.items()
    }
