"""What miners were set to before they were put to sleep, on disk: `profiles.jsonl` in the gateway's folder of the facility.

A line a change, on the disk before the sleep command leaves; the newest line of a slot holds. What is unchanged is not written
again, so a fleet that sleeps daily adds nothing. Mode 0600: a stock Antminer's configuration names its pools and workers.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from hcp_pipelines.devices.miner.telemetry import Profile
from hcp_pipelines.domain.errors import ConfigError, DeviceReplyError, StorageError
from hcp_pipelines.domain.modes import DeviceState

COMPACT_ABOVE = 2.0  # lines a slot: then the file is written anew at start
LINE_MAX_BYTES = 32 * 1024  # a stock configuration has some two


class ProfileStore:
    """The remembered profiles of one facility's miners, by address: a machine that is moved takes its history along nowhere."""

    def __init__(self, folder: Path) -> None:
        """Read what is known, and open the file.

        Raises:
            ConfigError: it is not a file of this account's own that can be written.
        """
        self._path = folder / "profiles.jsonl"
        self._known: dict[str, Profile] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = self._open()
        except OSError as error:
            raise ConfigError(
                f"{self._path}: {error.strerror}; miners' profiles are kept there, in a file that this account can write"
            ) from None
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    def recall(self, address: str) -> Profile | None:
        """What the miner at an address was set to before its last sleep."""
        return self._known.get(address)

    async def remember(self, address: str, profile: Profile) -> None:
        """Keep a profile; it is on the disk when this returns. Those that come together share one fsync.

        Raises:
            StorageError: the disk refused.
            DeviceReplyError: more than a configuration can have.
        """
        if self._known.get(address) == profile:
            return
        line = _line(address, profile)
        if len(line) > LINE_MAX_BYTES:
            raise DeviceReplyError(f"{address}: a configuration of {len(line)} bytes; the limit is {LINE_MAX_BYTES}")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting())
        await written
        self._known[address] = profile

    async def close(self) -> None:
        """Wait for what is being written and close the file."""
        if self._writing is not None:
            await self._writing
        os.close(self._fd)

    def _open(self) -> int:
        if self._path.is_symlink():
            raise ConfigError(
                f"{self._path} is a symbolic link, and pools and workers are not written through one: remove it"
            )
        lines = self._load()
        if lines > COMPACT_ABOVE * max(len(self._known), 1):
            self._compact()
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(fd, 0o600)
        if not _ends_well(self._path):
            os.write(fd, b"\n")  # a line torn by a loss of power stays alone
        return fd

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            failure: StorageError | None = None
            try:
                await asyncio.to_thread(self._write, b"".join(line for line, _ in batch))
            except OSError as error:
                failure = StorageError(f"{self._path}: {error.strerror}; the miner is not put to sleep")
            for _, written in batch:
                if written.done():
                    continue
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)

    def _load(self) -> int:
        lines = 0
        for address, profile in _read(self._path):
            self._known[address], lines = profile, lines + 1
        return lines

    def _compact(self) -> None:
        """Write only what holds, in one step."""
        fresh = self._path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.writelines(_line(address, profile) for address, profile in self._known.items())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _read(path: Path) -> Iterator[tuple[str, Profile]]:
    """What is on the disk; a torn or strange line is passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield _parse(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError):
                structlog.get_logger("devices.miner").warning("a line was passed over", file=str(path), bytes=len(line))


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        return file.read(1) in (b"", b"\n")


def _parse(value: dict[str, Any]) -> tuple[str, Profile]:
    return str(value["address"]), Profile(
        firmware=str(value["firmware"]),
        state=DeviceState(value["state"]),
        limit_w=None if value["limit_w"] is None else float(value["limit_w"]),
        name=str(value["name"]),
        configuration=dict(value["configuration"]),
    )


def _line(address: str, profile: Profile) -> bytes:
    value = {
        "address": address,
        "firmware": profile.firmware,
        "state": int(profile.state),
        "limit_w": profile.limit_w,
        "name": profile.name,
        "configuration": dict(profile.configuration),
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
