"""What ERCOT's public API wants on every call: the subscription's key, and a token of one hour for user name and password.

Source: ERCOT public API, registration and authentication: the resource owner's password flow of its Azure B2C tenant.
"""

from pydantic import SecretStr

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.markets.tokens import TokenAuth

REAL_LOGIN_URL = "https://ercotb2c.b2clogin.com"
TOKEN = "/ercotb2c.onmicrosoft.com/B2C_1_PUBAPI-ROPC-FLOW/oauth2/v2.0/token"  # noqa: S105 - a path
CLIENT_ID = "fec253ea-0d06-4272-a5e6-b478baeecd70"  # of the API itself, the same for all
KEY_HEADER = "Ocp-Apim-Subscription-Key"


def ercot_auth(
    username: str, password: SecretStr, subscription_key: SecretStr, clock: Clock, login_url: str = REAL_LOGIN_URL
) -> TokenAuth:
    """The log-in of one subscription."""
    form: dict[str, str | SecretStr] = {
        "grant_type": "password",
        "username": username,
        "password": password,
        "response_type": "id_token",
        "scope": f"openid {CLIENT_ID} offline_access",
        "client_id": CLIENT_ID,
    }
    headers = {KEY_HEADER: subscription_key}
    return TokenAuth(login_url.rstrip("/") + TOKEN, form, clock, token_field="id_token", headers=headers)  # noqa: S106
