"""Parts of the API's client: the stream's grammar in any pieces, refusals that are no problems, the file of a key."""

import contextlib
import json
from typing import ClassVar

import httpx
import pytest

from hcp_pipelines.client import ApiError, ApiReplyError, read_key
from hcp_pipelines.client.events import LONGEST_LINE_BYTES, events_in, follow
from hcp_pipelines.client.transport import json_of, refuse
from hcp_pipelines.domain.errors import ConfigError

DATA = {
    "workload_id": "9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a",
    "old_state": "queued",
    "new_state": "scheduled",
    "is_waiting": False,
    "reason": "ein Grund\u2028über zwei Zeilen",
    "actor": "scheduler",
    "timestamp": "2026-01-05T12:01:00Z",
    "of a newer API": 1,
}
SPREAD = "".join(f"data: {line}\n" for line in json.dumps(DATA, indent=1).splitlines())
STREAM = (
    ": from here on\r\nid: 6\r\n\r\n"
    f"id: 7\nevent: workload.state.changed\ndata: {json.dumps(DATA, ensure_ascii=False)}\n\n"
    "id: 8\nevent: of.another.kind\ndata: x\n\n: still here\n\n"
    f"id: 9\nevent: workload.state.changed\n{SPREAD}\n"
    "id: 10\nevent: workload.state.changed\ndata: {cut o"
).encode()


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_read_in_whatever_pieces_it_comes(size):
    found = list(events_in(STREAM[i : i + size] for i in range(0, len(STREAM), size)))
    assert found.pop(0) == 6, "where it stands before anything was told"
    assert [one.event_id for one in found] == [7, 9]
    assert {one.reason for one in found} == {DATA["reason"]}


def test_who_heard_nothing_goes_on_from_where_the_stream_stood():
    with pytest.raises(EnoughError):
        list(follow(Twice(), None))
    assert Twice.asked == [{}, {"Last-Event-ID": "6"}]


class EnoughError(Exception):
    """The second connection is all that is looked at."""


class Twice:
    """A transport whose first connection says where it stands, and breaks."""

    base_url = "http://127.0.0.1"
    asked: ClassVar = []

    def patience(self):
        return self

    def outlasts(self, error):
        return True

    @contextlib.contextmanager
    def stream(self, path, headers):
        self.asked.append(headers)
        if len(self.asked) == 2:
            raise EnoughError
        yield [STREAM[: STREAM.index(b"id: 7")]]


@pytest.mark.parametrize(
    "told",
    [
        b"id: 1\nevent: workload.state.changed\ndata: {}\n\n",
        STREAM.replace(b"id: 7", b"id: x"),
        b"x" * (LONGEST_LINE_BYTES + 1),
    ],
)
def test_what_is_no_such_stream_is_said(told):
    with pytest.raises(ApiReplyError):
        list(events_in([told]))


def test_a_refusal_of_something_else_on_the_way_is_told_as_far_as_it_goes():
    headers = {"Retry-After": "5", "X-Request-ID": "a1"}
    reply = httpx.Response(502, headers=headers, text="<h1>Bad\n gateway</h1>" + "x" * 1000)
    with pytest.raises(
        ApiError, match=r"Bad Gateway \(502\): <h1>Bad gateway</h1>x+; try again in 5 s \[request a1\]"
    ) as told:
        refuse(reply)
    assert told.value.is_passing
    assert len(told.value.detail) <= 200


def test_a_conflict_passes_only_where_the_api_says_so():
    assert ApiError(409, "t", "d", retry_after_s=1.0).is_passing
    assert not ApiError(409, "t", "d").is_passing
    assert not ApiError(500, "t", "d").is_passing


def test_a_page_that_is_no_json_is_said():
    reply = httpx.Response(200, text="<html>", request=httpx.Request("GET", "https://hcp.example/x"))
    with pytest.raises(ApiReplyError, match="is that the API"):
        json_of(reply)


def test_a_key_is_its_owners_alone(tmp_path):
    key = tmp_path / "key"
    with pytest.raises(ConfigError, match="can't be read"):
        read_key(key)
    key.write_text("hcp_a_b\n")
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key(key)
    key.chmod(0o600)
    assert read_key(key) == "hcp_a_b"
    for content in (b"", b"two words", b"\xff"):
        key.write_bytes(content)
        with pytest.raises(ConfigError):
            read_key(key)
