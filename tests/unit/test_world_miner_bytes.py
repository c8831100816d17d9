"""The miners' own small codecs: the end of a JSON object in pieces, md5crypt, digest; identities."""

import json
import subprocess

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.addresses import address_of
from simulators.miners import digest
from simulators.miners.cgminer import Framer, MalformedError
from simulators.miners.identity import hardware_of, identity_of
from simulators.miners.md5crypt import md5crypt

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(
    OBJECTS,
    st.booleans(),
    st.lists(st.integers(1, 12), max_size=40),
    st.sampled_from([b"", b"\n", b"\0", b'{"more":1}', b"}"]),
)
@settings(max_examples=300)
def test_an_object_is_found_when_its_last_byte_is_there_and_not_before(value, is_ascii, sizes, tail):
    text = json.dumps(value, ensure_ascii=is_ascii).encode()
    framer, buffer, found = Framer(), bytearray(), None
    at = 0
    for size in [*sizes, len(text) + len(tail)]:
        buffer += (text + tail)[at : at + size]
        at += size
        found = framer.take(buffer)
        assert (found is not None) == (len(buffer) >= len(text))
        if found is not None:
            assert found == value
            return


@given(st.lists(st.binary(max_size=20), max_size=20))
@settings(max_examples=300)
def test_any_bytes_are_an_object_or_not_yet_or_malformed(parts):
    framer, buffer = Framer(), bytearray()
    for part in parts:
        buffer += part
        try:
            found = framer.take(buffer)
        except MalformedError:
            return
        if found is not None:
            assert isinstance(found, dict)
            return


def test_each_byte_is_looked_at_once():
    framer, buffer = Framer(), bytearray(b'{"a":"')
    for _ in range(60_000):
        buffer += b"x"
        assert framer.take(buffer) is None
    buffer += b'"}'
    assert framer.take(buffer) == {"a": "x" * 60_000}


@pytest.mark.parametrize("word", ["admin", "a", "a much longer password than sixteen", "Schlüssel"])
@pytest.mark.parametrize("salt", ["abc", "12345678", "123456789"])
def test_md5crypt_is_what_openssl_makes(word, salt):
    made = subprocess.run(
        ["openssl", "passwd", "-1", "-salt", salt, "-stdin"], input=word, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip("openssl does not do this here")
    assert md5crypt(word, salt) == made.stdout.strip().split("$")[3]


def test_digest_takes_what_httpx_answers_and_nothing_else():
    address, url = "127.16.0.1", "http://127.16.0.1/cgi-bin/stats.cgi"
    for password, is_right in [("root", True), ("wrong", False)]:
        flow = httpx.DigestAuth("root", password).auth_flow(httpx.Request("GET", url))
        next(flow)
        challenge = httpx.Response(
            401, headers={"WWW-Authenticate": digest.challenge(address)}, request=httpx.Request("GET", url)
        )
        header = flow.send(challenge).headers["Authorization"]
        target = "/cgi-bin/stats.cgi"
        assert digest.is_authorised(header, "GET", target, address) is is_right
        assert not digest.is_authorised(header, "POST", target, address)
        assert not digest.is_authorised(header, "GET", "/", address)
        assert not digest.is_authorised(header, "GET", target, "127.16.0.2")
    assert not digest.is_authorised("", "GET", "/", address)


def test_identities_follow_from_the_address_and_are_not_shared():
    addresses = [address_of(site, slot) for site in (0, 1, 59) for slot in range(0, 200_000, 1777)]
    made = [identity_of(address, "antminer") for address in addresses]
    assert made == [identity_of(address, "antminer") for address in addresses]
    for values in zip(*[(one.mac, one.serial, one.hostname) for one in made], strict=True):
        assert len(set(values)) == len(addresses)
    assert int(made[0].mac[:2], 16) & 3 == 2, "locally administered, of one machine"


def test_models_that_are_not_in_the_table_keep_their_name():
    assert hardware_of("S99", is_whatsminer=False).type == "Antminer S99"
    assert hardware_of("M99", is_whatsminer=True).type == "M99_V10"
