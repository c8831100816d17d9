"""What switches were worth adds up, to the cent, to the difference between what was settled and nobody having switched."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.optimizer.settlement.day import Terms, devices_mwh, metered, settle, settle_stayed
from hcp_pipelines.optimizer.settlement.switch_value import switch_values
from tests.support.replayed import START, switch
from tests.support.settled import FIRST_SLOTS, FLEET, day_of, spells_of, usd

CENT = 0.005
INTERVALS = 8
TERMS = Terms(hedges=((START, START + timedelta(hours=1), 0.5, 30.0),), peak_usd_per_kw_year=65.0)


@st.composite
def switches(draw):
    """Some switches within two hours, one after the other, of parts of groups, into states of their ladders."""
    found = []
    minutes = sorted(draw(st.lists(st.integers(0, 119), min_size=1, max_size=8)))
    for number, minute in enumerate(minutes):
        group = draw(st.sampled_from(FLEET.groups))
        size = draw(st.integers(1, group.devices))
        first = FIRST_SLOTS[group.group_id] + draw(st.integers(0, group.devices - size))
        states = [int(each.state) for each in group.ladder]
        pair = draw(st.sampled_from(states)), draw(st.sampled_from(states))
        failed = draw(st.integers(0, size // 3))
        found.append(switch(f"s{number}", minute + 0.25, range(first, first + size), pair, failed=failed))
    return found


def a_day(draw):
    prices = draw(st.lists(st.floats(-200.0, 5000.0), min_size=INTERVALS, max_size=INTERVALS))
    event = [(START + timedelta(minutes=30), "DR-1", 0.25, 0.15, 0.1, 0.02, 250.0)]
    meter = [(START + timedelta(minutes=15), draw(st.floats(0.0, 0.1)), "metered")]
    hashed = [(START + timedelta(minutes=30), FLEET.groups[0].group_id, draw(st.floats(0.0, 0.1)), "told")]
    return day_of(prices, terms=TERMS, peaks=(4, 5, 6, 7), events=event, meter=meter, hashed=hashed)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_sum_over_switches_is_the_difference_of_settlements(data):
    told, day = data.draw(switches()), a_day(data.draw)
    done = spells_of(told, INTERVALS)
    found = switch_values(day, done)
    difference = usd(settle(day, done)) - usd(settle_stayed(day, done))
    assert abs(float(found["realised_usd"].sum()) - difference) < CENT


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_a_switch_is_worth_what_settles_with_it_less_what_settles_without_it_and_those_after_it(data):
    told, day = data.draw(switches()), a_day(data.draw)
    day = replace(day, hashed=day.hashed.clear())  # what was told stays in all of them: here each has its own
    told = [rows[:2] for rows in told]  # all take; what fails later is a switch of its own
    done = spells_of(told, INTERVALS)
    base = usd(settle_stayed(day, done))
    by_hand = []
    for count in range(1, len(told) + 1):
        # the journal's first switches alone: where devices were before is told by the later ones, so they are kept, unacked
        kept = [rows if n < count else rows[:1] for n, rows in enumerate(told)]
        partly = spells_of(kept, INTERVALS)
        by_hand.append(usd(settle(unmetered(day, done, partly), partly)))
    worth = np.diff([base, *by_hand])
    values = dict(switch_values(day, done).select("command_id", "realised_usd").iter_rows())
    for number, expected in enumerate(worth):
        assert abs(float(values.get(f"s{number}", 0)) - expected) < CENT


def unmetered(day, done, partly):
    """The day with the meter as it would have been, had only a part been done."""
    shown = metered(day, done)
    more = devices_mwh(day, partly) - devices_mwh(day, done)
    meter = shown.select("start_at", energy_mwh=shown["energy_mwh"] + more, basis="basis")
    return replace(day, meter=meter)


def test_devices_that_go_on_leave_the_first_switch_what_it_brought_until_then():
    group = FLEET.groups[0]
    low, top = int(group.ladder[0].state), int(group.ladder[-1].state)
    slots = range(FIRST_SLOTS[group.group_id], FIRST_SLOTS[group.group_id] + 10)
    told = [switch("off", 30, slots, (top, low)), switch("on", 60, slots, (low, top))]
    day = day_of([20.0, 20.0, 900.0, 900.0, 20.0, 20.0, 20.0, 20.0])
    found = {row["command_id"]: row for row in switch_values(day, spells_of(told, INTERVALS)).to_dicts()}
    mw = (FLEET.power_mw[0, top] - FLEET.power_mw[0, low]) * 10
    earned = FLEET.usd_per_hour_per_index[0, top] * 55.0 * 10
    assert float(found["off"]["until_next_usd"]) == round(0.5 * (mw * 900.0 - earned), 6)
    assert found["off"]["device_hours"] == 5.0
    assert float(found["on"]["until_next_usd"]) > 0
    assert found["off"]["realised_usd"] + found["on"]["realised_usd"] > 0
    assert found["off"]["realised_usd"] < found["off"]["until_next_usd"]
