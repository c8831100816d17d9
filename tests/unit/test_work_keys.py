"""Whose work a slot was told, as owner and gateway say it to each other; and what makes work fit for a command."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.work import check_work, decode_keys, encode_keys, key_of
from hcp_pipelines.workloads.runs import runs_of


@given(st.lists(st.sampled_from([0, 1, 2**62 + 3]), min_size=1, max_size=50))
def test_keys_come_back_as_they_went(keys):
    told = np.array(keys, dtype=np.int64)
    assert decode_keys(*encode_keys(told), len(keys)).tolist() == keys


def test_keys_that_are_not_one_a_slot_are_refused():
    slots, keys = encode_keys(np.array([0, 5, 6], dtype=np.int64))
    with pytest.raises(ValueError, match="8 bytes of keys for 2 slots"):
        decode_keys(slots, keys[:8], 3)


def test_a_gateway_with_more_slots_says_nothing_of_those_that_are_here():
    slots, keys = encode_keys(np.array([0, 5, 6], dtype=np.int64))
    assert decode_keys(slots, keys, 2).tolist() == [0, 5]


SAID = st.one_of(st.text(max_size=5), st.floats(), st.integers(), st.booleans(), st.sampled_from(["cold", "streamed"]))
NAMES = st.sampled_from(["weights_gib", "gpus_each", "load"])


@given(st.text(max_size=150), st.dictionaries(NAMES, SAID), st.text(max_size=600))
def test_whatever_a_customer_writes_a_gateway_takes_what_comes_of_it(name, said, checkpoint):
    runs = runs_of({"model_name": name, "sla_parameters": said}, checkpoint)
    work = pb.Work(
        workload_id="6f1c0f5e-8f0e-4a44-9a34-b5b1c4c7d1f0", model=runs.model, weights_gib=runs.weights_gib,
        gpus_each=runs.gpus_each, load=runs.load, checkpoint=runs.checkpoint,
    )  # fmt: skip
    assert check_work(work) == ""
    assert 1 <= runs.gpus_each <= 8
    assert all(" " <= c <= "~" for c in runs.model + runs.checkpoint)


def test_a_workloads_key_is_the_same_everywhere_and_never_nobodys():
    assert key_of("6f1c0f5e-8f0e-4a44-9a34-b5b1c4c7d1f0") == 6_075_070_938_150_280_084, "or owners and gateways part"
    assert len({key_of(str(n)) for n in range(10_000)}) == 10_000
