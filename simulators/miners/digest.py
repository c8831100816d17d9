"""HTTP digest authentication as lighttpd on an Antminer asks for it: MD5, qop=auth. Stateless: the nonce is made of the address.

Source: RFC 7616. Nothing here is a protection: the password is the factory's.
"""

import hashlib
import re
from typing import Final

REALM: Final = "antMiner Configuration"
USER, PASSWORD = "root", "root"  # the factory's, known to everyone
_FIELD: Final = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')


def challenge(address: str) -> str:
    """The WWW-Authenticate header."""
    return f'Digest realm="{REALM}", nonce="{_nonce(address)}", qop="auth"'


def is_authorised(header: str, method: str, target: str, address: str) -> bool:
    """Whether an Authorization header answers the challenge of this address."""
    kind, _, rest = header.partition(" ")
    said = {name: quoted or bare for name, quoted, bare in _FIELD.findall(rest)}
    if kind.lower() != "digest" or said.get("nonce") != _nonce(address) or said.get("uri") != target:
        return False
    secret = _md5(f"{USER}:{REALM}:{PASSWORD}")
    request = _md5(f"{method}:{target}")
    middle = [said.get(name, "") for name in ("nonce", "nc", "cnonce", "qop")]
    return said.get("username") == USER and said.get("response") == _md5(":".join([secret, *middle, request]))


def _nonce(address: str) -> str:
    return _md5(f"nonce/{address}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
