"""Customers of an API that is loaded: an account and a key each."""

from collections.abc import Mapping

from hcp_pipelines.operators import api_keys, users
from hcp_pipelines.operators.users import UserRole
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role


def add_customers(settings: Settings, tiers: Mapping[str, str]) -> dict[str, str]:
    """The key of each, by the customer's name."""
    made, pepper = {}, api_keys.pepper(settings)
    with connect(settings, Role.API) as connection:
        for name, tier in tiers.items():
            customer = users.add_customer(connection, name, f"{name}@example.com", tier, "bench")
            user = users.add_user(connection, name, UserRole.CUSTOMER, pepper.hex(), "bench", customer)
            made[name], _ = api_keys.add_key(connection, pepper, user, "bench", None, "bench")
    return made
