"""As which account the embedded PostgreSQL runs: one's own; in root's place, which it refuses, another one."""

import os
import pwd
from pathlib import Path

from hcp_pipelines.domain.errors import StorageError

UNPRIVILEGED = "nobody"
_ID_MAPS = (Path("/proc/self/uid_map"), Path("/proc/self/gid_map"))


def server_account() -> "pwd.struct_passwd | None":
    """The account to run as; None: one's own.

    Raises:
        StorageError: root of a user namespace that has no number for the other account.
    """
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam(UNPRIVILEGED)
    for number, path in zip((account.pw_uid, account.pw_gid), _ID_MAPS, strict=True):
        if not is_mapped(number, path.read_text()):
            raise StorageError(
                f"PostgreSQL refuses to run as root, and {UNPRIVILEGED!r} ({number}), as whom it runs then, is nobody in this "
                "user namespace: be somebody else than root in it (unshare -Un --map-current-user --keep-caps; for root "
                "--map-user=1000 in its place), or set HCP_DATABASE_URL"
            )
    return account


def is_mapped(number: int, id_map: str) -> bool:
    r"""Whether a user namespace knows a number, by its `uid_map` or `gid_map`.

    Source: user_namespaces(7): a line is first number inside, first outside, how many.

    >>> is_mapped(65534, "0 0 4294967295"), is_mapped(65534, "0 1000 1"), is_mapped(7, "0 1000 1\n5 100000 10")
    (True, False, True)
    """
    lines = [[int(word) for word in line.split()] for line in id_map.splitlines()]
    return any(first <= number < first + count for first, _, count in lines)
