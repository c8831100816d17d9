"""`hcp capacity`: what GPUs cost in public clouds now, and where there are any: for work that finds no room at home."""

import asyncio
from pathlib import Path

import click

from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets import aws, azure
from hcp_pipelines.markets.capacity import Place, open_clouds
from hcp_pipelines.markets.cloud import CloudOffer
from hcp_pipelines.markets.real import services_of
from hcp_pipelines.orchestration.history.fetch import world_base_url
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.status import world_clock

PATIENCE_S = 30.0  # real
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
    real = services_of(settings.world, settings.markets_file)
    url = world_base_url(settings) if real is None else ""
    places = [Place(aws.PROVIDER, aws_region), Place(azure.PROVIDER, azure_region)]
    async with open_clouds(places, url, real, world_clock(settings), PATIENCE_S) as clouds:
        answers = await asyncio.gather(*(cloud.offers() for cloud in clouds), return_exceptions=True)
    asked = [cloud.place.provider for cloud in clouds]
    failures = [
        f"{place.provider}: HCP_MARKETS_FILE has no account there (docs/markets.md)"
        for place in places
        if place.provider not in asked
    ]
    offers = list[CloudOffer]()
    for provider, answer in zip(asked, answers, strict=True):
        if isinstance(answer, MarketError):
            failures.append(f"{provider}: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            offers += answer
    return offers, failures


def _row(offer: CloudOffer) -> tuple[str, ...]:
    place = offer.zone or offer.region
    price, since = f"{offer.usd_per_gpu_hour:.4f}", f"{offer.since:%Y-%m-%d %H:%M}Z"
    told = (offer.gpu_type, price, offer.way.value.replace("_", " "), offer.provider, place, offer.machine)
    return (*told, str(offer.gpus), _STOCK[offer.is_available], since)


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(capacity)
