"""Lowered programs: what verify refuses, and what does not grow with the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Features, documents, random_document

from pcsim.graph import graph_from, level, levels, light_cone
from pcsim.ops.synapses.synapse import arranged
from pcsim.program.lower import SHARED_BY, lower, ticks_of
from pcsim.program.verify import ProgramError, verify
from pcsim.rules import RULES, rule

DOCUMENT = {
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "a": {"op": "affine", "units": 3, "inputs": ["x"]},
        "b": {"op": "affine", "units": 3, "inputs": ["a"]},
        "c": {"op": "affine", "units": 3, "inputs": ["b"]},
        "y": {"op": "add", "inputs": ["c", {"from": "a", "delay": 2}, {"from": "b", "delay": 3}]},
    }
}


def program():
    return lower(graph_from(DOCUMENT), rule("il"))


def with_step(found, number, **changes):
    steps = list(found.steps)
    steps[number] = replace(steps[number], **changes)
    return replace(found, steps=tuple(steps))


def with_post(found, **changes):
    return replace(found, inboxes={shape: replace(post, **changes) for shape, post in found.inboxes.items()})


def with_slot(found, number, **changes):
    slots = found.steps[number].slots
    return with_step(found, number, slots=(replace(slots[0], **changes), *slots[1:]))


def swapped(found):
    post = next(iter(found.inboxes.values()))
    order = post.order.copy()
    order[[0, -1]] = order[[-1, 0]]
    return with_post(found, order=order)


def post_of(found):
    return next(iter(found.inboxes.values()))


MUTATIONS = {
    "a step left out": lambda p: replace(p, steps=p.steps[1:]),
    "a step doubled": lambda p: replace(p, steps=(*p.steps, p.steps[0])),
    "a step's rows shifted": lambda p: with_step(p, 0, rows=slice(p.steps[0].rows.start + 1, p.steps[0].rows.stop + 1)),
    "a slot left out": lambda p: with_step(p, 1, slots=()),
    "a slot that reads other rows": lambda p: with_slot(p, 0, rows=slice(0, 1)),
    "receivers reversed": lambda p: with_post(p, receivers=post_of(p).receivers[::-1].copy()),
    "a message doubled": lambda p: with_post(p, order=np.zeros_like(post_of(p).order)),
    "a message lost": lambda p: with_post(p, order=post_of(p).order[:-1]),
    "messages in the wrong order": swapped,
    "a delay line too short": lambda p: with_post(
        p, delay_buffer=replace(post_of(p).delay_buffer, length=post_of(p).delay_buffer.length - 1)
    ),
    "a delay line left out": lambda p: with_post(p, late=post_of(p).late[:-1]),
}


def test_the_program_itself_is_accepted():
    found = program()
    assert verify(found) is found


@pytest.mark.parametrize("name", list(MUTATIONS))
def test_verify_refuses(name):
    with pytest.raises(ProgramError):
        verify(MUTATIONS[name](program()))


@given(
    documents(precision=True),
    st.sampled_from(list(RULES)),
    st.sampled_from(["none", "delay", "identity"]),
    st.booleans(),
)
def test_every_lowered_program_is_verified(document, row, form, keep):
    graph = level(graph_from(document), form)
    found = verify(lower(graph, RULES[row], keep_values=keep))
    assert sorted(name for names in found.parameters.values() for name in names) == sorted(graph.parameters)
    assert sorted(name for step in found.steps for name in step.names) == sorted(graph.active)


@given(documents(), st.sampled_from(list(RULES)), st.sampled_from(["none", "delay"]))
def test_arrays_of_a_step_say_what_its_slots_say(document, row, form):
    found = lower(level(graph_from(document), form), RULES[row], keep_values=True)
    for step in found.steps:
        for slot, rows, messages, delays in zip(
            step.slots, step.rows_of_inputs, step.messages_of_inputs, step.value_delays, strict=True
        ):
            for edge, row_read, message, delay in zip(slot.edges, rows, messages, delays, strict=True):
                pre = found.graph.vertices[edge.pre]
                names = found.parameters[slot.shape] if slot.is_parameter else found.groups[slot.shape].names
                assert names[row_read] == (pre.params[0][1] if slot.is_parameter else edge.pre)
                sends = found.graph.role(edge.pre) == "free"
                assert (found.inboxes[slot.shape].edges[message] == edge) if sends else message == -1
                assert delay == (edge.value_delay if sends else 0)
        shapes = {slot.shape for slot in step.slots}
        assert step.joins == (len(shapes) == 1 and not any(slot.is_parameter for slot in step.slots))


@given(documents(), st.sampled_from(list(RULES)))
def test_arrivals_are_the_light_cone_by_step(document, row):
    found = lower(graph_from(document), RULES[row])
    cone = light_cone(found.graph, moving=found.rule.moving, learning=found.rule.fires.applies)
    for step, arrivals in zip(found.steps, found.arrivals, strict=True):
        assert arrivals.tolist() == [-1 if cone[name] is None else cone[name] for name in step.names]


def chain(depth, shared=False):
    vertices = {"x": {"op": "input", "shape": [2]}}
    for number in range(1, depth + 1):
        pre = "x" if number == 1 else f"h{number - 1}"
        params = {"weight": "W"} if shared else {}
        vertices[f"h{number}"] = {"op": "affine", "units": 2, "inputs": [pre], "params": params}
    return graph_from({"vertices": vertices, "parameters": {"W": {"shape": [2, 2]}} if shared else {}})


@pytest.mark.parametrize("row", ["il", "fpa", "zil"])
def test_steps_do_not_grow_with_depth(row):
    assert len({len(lower(chain(depth), RULES[row]).steps) for depth in (4, 40, 400)}) == 1


@pytest.mark.parametrize("users", [SHARED_BY - 1, SHARED_BY, 3 * SHARED_BY])
def test_steps_do_not_grow_with_the_users_of_a_parameter(users):
    assert len(lower(chain(users, shared=True), rule("fpa")).steps) == len(lower(chain(4), rule("fpa")).steps)


def test_synapses_of_two_projections_count_twice_and_are_held_once():
    same = arranged(np.array([0, 1, 2]), np.array([0, 0, 1]), np.array([0, 2, 2]), fan_out=3, units=2)
    units = {"op": "projection", "units": 2, "inputs": ["x"], "synapses": same}
    graph = graph_from({"vertices": {"x": {"op": "input", "shape": [3]}, "a": units, "b": units}})
    found = lower(graph, rule("fpa"))
    assert [len(synapses) for synapses in found.synapses] == [3, 3]
    held = [getattr(same, name).nbytes for name in ("pre", "post", "delay", "columns", "starts")]
    assert found.memory(batch=2, itemsize=8)["synapses"] == sum(held)


def test_memory_and_traffic_count_what_is_there():
    found = program()
    assert found.memory(batch=2, itemsize=4)["parameters"] == 3 * (9 + 3) * 4
    assert found.memory(batch=2, itemsize=4)["in flight"] == (2 + 3 + 2 + 3) * 3 * 2 * 4
    assert found.traffic(batch=2, itemsize=4) == {
        "value messages": 6, "value bytes": 6 * 24, "error messages": 5, "error bytes": 5 * 24,
    }  # fmt: skip


def test_history_keeps_one_line_per_value_however_many_edges_read_it():
    inputs = [{"from": "h", "delay": delay} for delay in (1, 2, 4)]
    graph = graph_from(
        {
            "vertices": {
                "x": {"op": "input", "shape": []},
                "h": {"op": "tanh", "inputs": ["x"]},
                "y": {"op": "add", "inputs": inputs},
            }
        }
    )
    assert [history.delay_buffer.length.tolist() for history in lower(graph, rule("il")).histories.values()] == [[4]]
    assert lower(graph, rule("fpa")).histories == {}


def test_zil_takes_as_many_ticks_as_the_graph_has_levels():
    """Section 7: exactly levels(graph) ticks; L for a chain of L layers."""
    assert ticks_of(chain(6), rule("zil")) == 6
    graph = level(graph_from(random_document(1, Features())), "delay")
    assert ticks_of(graph, rule("zil")) == levels(graph)
