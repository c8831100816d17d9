"""`hcp user quota CUSTOMER`: what a customer may have at a time, beside what its tier has."""

from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.acting import acting, as_option
from hcp_pipelines.cli.billed import customer_of
from hcp_pipelines.cli.common import Finite, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.operators.quotas import LIMITS, Quota, quota_of, set_quota
from hcp_pipelines.operators.users import TIERS
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

MOST = 2**31 - 1
LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
WORDS = ("share, over others'", "waiting, most", "GPUs held, most", "retries, most")


class OrTier(click.ParamType[float | str]):
    """A number, or `tier` for what the tier has."""

    name = "n|tier"

    def __init__(self, number: "click.ParamType[Any]") -> None:
        """`number`: what is taken beside the word."""
        self._number = number

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number; the word as it is."""
        if value == "tier":
            return "tier"
        number: float = self._number.convert(value, param, ctx)
        return number


_COUNT = OrTier(click.IntRange(0, MOST))


@click.command("quota")
@click.argument("customer")
@click.option("--waiting", "max_waiting", type=_COUNT, help="Pieces of work that wait at a time.")
@click.option("--gpus", "max_gpus", type=_COUNT, help="GPUs held at a time.")
@click.option("--retries", "max_retries", type=_COUNT, help="Retries of each piece of work.")
@click.option(
    "--weight", type=OrTier(Finite(min=LEAST_WEIGHT, max=MOST_WEIGHT)), help="Its share of GPU-time, over others'."
)
@click.option("--refuse", "reason", help="Take nothing more of it, for this reason, which it is told.")
@click.option("--take", "is_taken", is_flag=True, help="Take its work again.")
@click.option("--tier", type=click.Choice(TIERS), help="Put it into another tier; work that is there keeps its own.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@as_option
@state_dir_option
@click.pass_context
def quota(
    context: click.Context, /, customer: str, reason: str | None, is_taken: bool, tier: str | None, as_json: bool,
    operator: str | None, own_state_dir: Path | None, **limits: float | str | None,
) -> None:  # fmt: skip
    """Show what CUSTOMER may have at a time, and as an operator set it: N instead of its tier's, or `tier` to go by that again.

    It counts from the next submission and claim on; what is held is not taken back.
    """
    changes: dict[str, object] = {n: None if v == "tier" else v for n, v in limits.items() if v is not None}
    if is_taken and reason is not None:
        raise click.UsageError("--refuse or --take")
    if reason is not None and not reason.strip():
        raise click.UsageError("--refuse REASON: why, for the customer to read")
    if is_taken or reason is not None:
        changes["refused_because"] = (reason or "").strip()
    settings = settings_of(context, own_state_dir)
    customer_id = customer_of(settings, customer)
    if changes or tier is not None:
        with acting(context, own_state_dir, operator) as act:
            quota_of(act.connection, customer_id)  # it is there
            set_quota(act.connection, act.operator, customer_id, changes, tier)
    with connect(settings, Role.OPERATOR) as connection:
        found = quota_of(connection, customer_id)
    if as_json:
        print_json(
            {"customer_id": str(customer_id), **{name: getattr(found, name) for name in found.__dataclass_fields__}}
        )
        return
    _show(found)


def _show(found: Quota) -> None:
    now = {"max_waiting": found.waiting, "max_gpus": found.gpus}
    print_table(f"{found.email}, {found.tier}", ("", "its tier's", "its own", "now"), [
        (word, f"{found.of_tier[name]:g}", "" if (own := found.own[name]) is None else f"{own:g}", str(now.get(name, "")))
        for name, word in zip(LIMITS, WORDS, strict=True)
    ])  # fmt: skip
    if found.refused_because:
        click.echo(f"Nothing more is taken of it: {found.refused_because}")
