"""Direct orders from the command line: to gateways over their own sockets, without Postgres and without an allocator.

Where the gateways are is read from their files in the state directory; `hcp release`, which has Postgres, from there.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import grpc
import psycopg
import yaml

from hcp_pipelines.cli.common import print_json
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, HcpError
from hcp_pipelines.operators.accounts import read_token
from hcp_pipelines.operators.progress import gateway_addresses, read_gateways
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import client_tls, open_channel
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayStub

WITHIN_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What a facility's gateway answered; `problem` is why there is no answer, or a refusal."""

    facility_id: str
    devices: int
    expected_kw: float
    detail: str
    problem: str


@dataclass(frozen=True, slots=True)
class Holding:
    """A facility whose gateway holds devices for a direct order; `problem` is why that is not known."""

    facility_id: str
    address: str
    problem: str


def find_gateways(settings: Settings) -> dict[str, str]:
    """The gRPC address of each facility's gateway.

    Raises:
        ConfigError: there is no gateway's file, or one can't be read.
    """
    found: dict[str, str] = {}
    for path in sorted(settings.at("edge").glob("*.yaml")):
        try:
            document = yaml.safe_load(path.read_text())
            found |= {facility["facility_id"]: document["listen"] for facility in document["facilities"]}
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: no gateway's file: {error!r}") from None
    if not found:
        raise ConfigError(f"{settings.at('edge')} has no gateway's file: is --state-dir right?")
    return found


def send_orders(
    settings: Settings, operator: str | None, reason: str, facilities: Sequence[str], **what: Any
) -> list[Answer]:
    """Send the same order to facilities (to all, if none is named), all at once; each gateway's answer.

    Raises:
        ConfigError: nobody orders, there is no token, or a facility has no gateway here.
    """
    name = operator or settings.operator
    if not name:
        raise ConfigError("who orders this? `--as NAME`, or HCP_OPERATOR=NAME (docs/operators.md)")
    return _order(settings, name, reason, chosen_gateways(settings, facilities), **what)


def chosen_gateways(settings: Settings, facilities: Sequence[str]) -> dict[str, str]:
    """Where the gateways of some facilities are (of all, if none is named).

    Raises:
        ConfigError: a facility has no gateway here.
    """
    gateways = find_gateways(settings)
    _refuse_unknown(facilities, gateways)
    return {facility_id: gateways[facility_id] for facility_id in (facilities or sorted(gateways))}


def holding(settings: Settings, connection: psycopg.Connection[Any], facilities: Sequence[str] | None) -> list[Holding]:
    """Of some facilities (None: of all) those whose gateways hold devices for a direct order, or can't be asked whether they do.

    Raises:
        ConfigError: a facility has no gateway, or one that is named holds nothing.
    """
    gateways = gateway_addresses(connection)
    _refuse_unknown(facilities or (), gateways)
    asked = sorted(gateways) if facilities is None else facilities
    found = []
    for facility_id, state in read_gateways(settings, gateways, asked).items():
        if isinstance(state, HcpError):
            found.append(Holding(facility_id, gateways[facility_id], str(state)))
        elif state.held:
            found.append(Holding(facility_id, gateways[facility_id], ""))
        elif facilities is not None:
            raise ConfigError(f"direct/{facility_id} does not stand (any more): its gateway holds nothing")
    return found


def end_direct_orders(settings: Settings, operator: str, reason: str, holding: Sequence[Holding]) -> list[Answer]:
    """End the direct orders at gateways; those that could not be asked are answered for with that problem."""
    mute = [Answer(h.facility_id, 0, 0.0, "", h.problem) for h in holding if h.problem]
    chosen = {h.facility_id: h.address for h in holding if not h.problem}
    return [*mute, *_order(settings, operator, reason, chosen, release=True)] if chosen else mute


def _refuse_unknown(facilities: Sequence[str], gateways: Mapping[str, str]) -> None:
    missing = set(facilities) - set(gateways)
    if missing:
        known = ", ".join(sorted(gateways)) or "none"
        raise ConfigError(f"no gateway here has facility {min(missing)!r}; there are {known}")


def _order(settings: Settings, name: str, reason: str, chosen: Mapping[str, str], **what: Any) -> list[Answer]:
    template = pb.DirectOrder(operator=name, token=read_token(settings, name), reason=reason, **what)
    return asyncio.run(_send_all(settings, chosen, template))


def tell(answers: Sequence[Answer], *, as_json: bool) -> None:
    """Say what was answered.

    Raises:
        HcpError: a gateway refused, or did not answer.
    """
    if as_json:
        print_json({"facilities": [vars(answer) for answer in answers]})
    for answer in () if as_json else answers:
        click.echo(f"{answer.facility_id}: {answer.problem or _said(answer)}", err=bool(answer.problem))
    failed = [answer for answer in answers if answer.problem]
    if failed:
        raise HcpError(f"{len(failed)} of {len(answers)} facilities did not take the order; the others did")


def _said(answer: Answer) -> str:
    if not answer.devices and not answer.expected_kw:
        return "released; nothing rises by itself"
    text = f"{answer.devices} devices told to go down, {answer.expected_kw / 1000:.3f} MW at the meter once they have"
    return f"{text}; {answer.detail}" if answer.detail else text


async def _send_all(settings: Settings, chosen: Mapping[str, str], template: pb.DirectOrder) -> list[Answer]:
    return list(await asyncio.gather(*(_send(settings, *one, template) for one in chosen.items())))


async def _send(settings: Settings, facility_id: str, address: str, template: pb.DirectOrder) -> Answer:
    order = pb.DirectOrder.FromString(template.SerializeToString())
    order.facility_id, order.order_id = facility_id, str(uuid.uuid4())
    order.issued_at_ms = int(SystemClock().real_now().timestamp() * 1000)
    try:
        async with open_channel(address, client_tls(settings, "operator")) as channel:
            reply = await EdgeGatewayStub(channel).Direct(order, timeout=WITHIN_S)
    except grpc.aio.AioRpcError as error:
        return Answer(facility_id, 0, 0.0, "", f"{address}: {error.code().name}: {error.details()}")
    problem = "" if reply.accepted else f"{reply.refusal}: {reply.detail}"
    return Answer(facility_id, reply.devices, reply.expected_kw, reply.detail, problem)
