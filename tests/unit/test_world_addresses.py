"""Addresses of simulated devices: one for each slot, none shared, none outside 127/8."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.addresses import MAX_SITES, MAX_SLOTS, Place, address_of, is_loopback, locate


@given(st.integers(0, MAX_SITES - 1), st.integers(0, MAX_SLOTS - 1))
def test_an_address_leads_back_to_its_device(site_index, slot):
    address = address_of(site_index, slot)
    assert locate(address) == Place(site_index, slot)
    octets = [int(octet) for octet in address.split(".")]
    assert octets[0] == 127
    assert 16 <= octets[1] <= 255
    assert octets[2] <= 253
    assert 1 <= octets[3] <= 254


def test_the_formula_of_the_contract():
    for site_index, slot in [(0, 0), (0, 253), (0, 254), (0, 64_515), (0, 64_516), (3, 1000), (59, MAX_SLOTS - 1)]:
        expected = f"127.{16 + 4 * site_index + slot // 64516}.{(slot % 64516) // 254}.{(slot % 254) + 1}"
        assert address_of(site_index, slot) == expected


def test_no_two_slots_of_a_site_share_an_address():
    slots = [*range(2000), *range(64_000, 65_000), *range(MAX_SLOTS - 500, MAX_SLOTS)]
    assert len({address_of(7, slot) for slot in slots}) == len(slots)


@pytest.mark.parametrize(("site_index", "slot"), [(-1, 0), (MAX_SITES, 0), (0, -1), (0, MAX_SLOTS)])
def test_what_has_no_address_is_refused(site_index, slot):
    with pytest.raises(ValueError, match="has no address: 60 sites of 258064 slots"):
        address_of(site_index, slot)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.15.9.9", "127.16.254.1", "127.16.0.0", "127.16.0.255", "10.16.0.1", "::1", "127.16.0", "name"],
)
def test_where_no_device_can_be(address):
    assert locate(address) is None


@given(st.text(max_size=40))
def test_any_text_is_either_located_or_not(text):
    place = locate(text)
    assert place is None or address_of(*place) == text


def test_loopback():
    assert is_loopback(address_of(59, MAX_SLOTS - 1))
    assert not is_loopback("192.0.2.7")
