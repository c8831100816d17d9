"""`hcp capacity`: what GPUs cost in public clouds now, and where there are any: for work that finds no room at home."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import click
from pydantic import SecretStr

from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets import aws, azure
from hcp_pipelines.markets.aws_signing import AwsAuth
from hcp_pipelines.markets.cloud import CloudOffer
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit, Pace
from hcp_pipelines.markets.real import Access, services_of
from hcp_pipelines.orchestration.history.fetch import world_base_url
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.status import world_clock

PATIENCE_S = 30.0  # real
SIMULATED = "world"  # subscription and keys at the simulated clouds, which take any
_STOCK = {True: "yes", False: "no", None: "not said"}


@click.command("capacity")
@click.option("--aws-region", default="us-east-1", show_default=True, help="Region of Amazon's.")
@click.option("--azure-region", default="eastus", show_default=True, help="Region of Azure's.")
@click.option("--gpu", help="Of one GPU model: H100.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def capacity(
    context: click.Context,
    aws_region: str,
    azure_region: str,
    gpu: str | None,
    as_json: bool,
    own_state_dir: Path | None,
) -> None:
    """Show what GPUs cost in two public clouds now, in dollars per GPU and hour, cheapest first, and where there are any.

    A cloud that can't be asked is named, and the other's offers are shown. Exit code 1: neither could be asked.
    """
    settings = settings_of(context, own_state_dir)
    offers, failures = asyncio.run(_ask(settings, aws_region, azure_region))
    shown = sorted(
        (offer for offer in offers if gpu in (None, offer.gpu_type)), key=lambda o: (o.gpu_type, o.usd_per_gpu_hour)
    )
    for failure in failures:
        click.echo(failure, err=True)
    if as_json:
        print_json({"offers": [offer._asdict() for offer in shown], "failures": failures})
    elif shown:
        columns = ("GPU", "$/GPU-hour", "rented", "cloud", "place", "machine", "GPUs", "to be had", "since")
        print_table("GPU capacity of public clouds", columns, [_row(offer) for offer in shown])
    elif offers:
        known = ", ".join(sorted({offer.gpu_type for offer in offers}))
        click.echo(f"No {gpu} is offered there; there are {known}.")
    if not offers:
        context.exit(1)


async def _ask(settings: Settings, aws_region: str, azure_region: str) -> tuple[list[CloudOffer], list[str]]:
    """The offers of both clouds, and why one has none.

    Raises:
        ConfigError: the real ones are meant, and the file of accounts is wrong. NotRunningError: there is no world yet.
    """
    clock = world_clock(settings)
    amazon, microsoft, failures = _accesses(settings, aws_region, clock)
    async with AsyncExitStack() as stack:

        def http(access: Access, limit: Limit) -> MarketHttp:
            made = MarketHttp(access.base_url, auth=access.auth, pace=Pace(clock, limit), patience_s=PATIENCE_S)
            stack.push_async_callback(made.close)
            return made

        asked = dict[str, Awaitable[list[CloudOffer]]]()
        if amazon is not None:
            ec2, prices = (http(access, aws.LIMIT) for access in amazon)
            asked[aws.PROVIDER] = aws.AwsClient(ec2, prices, aws_region).offers(clock.now())
        if microsoft is not None:
            listed, managed, subscription = microsoft
            prices, sizes = http(listed, azure.LIMIT), http(managed, azure.LIMIT)
            asked[azure.PROVIDER] = azure.AzureClient(prices, sizes, subscription).offers(azure_region)
        answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    offers = list[CloudOffer]()
    for provider, answer in zip(asked, answers, strict=True):
        if isinstance(answer, MarketError):
            failures.append(f"{provider}: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            offers += answer
    return offers, failures


def _accesses(
    settings: Settings, aws_region: str, clock: Clock
) -> tuple[tuple[Access, Access] | None, tuple[Access, Access, str] | None, list[str]]:
    """Amazon's access (EC2, price list), Azure's (price list, management, subscription), and which cloud has no account."""
    real = services_of(settings.world, settings.markets_file)
    if real is None:
        url = world_base_url(settings)
        ec2, prices = (
            Access(url, AwsAuth(SIMULATED, SecretStr(SIMULATED), region, service, clock))
            for region, service in ((aws_region, "ec2"), (aws.PRICING_REGION, "pricing"))
        )
        return (ec2, prices), (Access(url), Access(url), SIMULATED), []
    amazon, microsoft = real.amazon(aws_region, clock), real.microsoft(clock)
    without = [name for name, access in ((aws.PROVIDER, amazon), (azure.PROVIDER, microsoft)) if access is None]
    return amazon, microsoft, [f"{name}: HCP_MARKETS_FILE has no account there (docs/markets.md)" for name in without]


def _row(offer: CloudOffer) -> tuple[str, ...]:
    place = offer.zone or offer.region
    price, since = f"{offer.usd_per_gpu_hour:.4f}", f"{offer.since:%Y-%m-%d %H:%M}Z"
    told = (offer.gpu_type, price, offer.way.value.replace("_", " "), offer.provider, place, offer.machine)
    return (*told, str(offer.gpus), _STOCK[offer.is_available], since)


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(capacity)
