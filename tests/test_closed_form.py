"""Fixed predictions in closed form against the simulation: everything that can be read, at every tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import PER_TICK, documents, make_task, run_task

from pcsim.analysis.closed import MOST_KINDS, arrivals, closed_form
from pcsim.analysis.theory import arrived
from pcsim.engines import open_engine
from pcsim.errors import DomainError, InputError, NumberOverflowError
from pcsim.rules import rule

STEP_SIZES = [0.1, 0.6, 1.0, 1.3]


def off(got, wanted):
    """Return the greatest difference relative to the largest magnitude so far, over the ticks."""
    if not wanted.size:
        return 0.0
    flat = (len(wanted), -1)
    size = np.maximum.accumulate(np.abs(wanted).reshape(flat).max(axis=1))
    away = np.abs(got - wanted).reshape(flat).max(axis=1)
    return float((away[size > 0] / size[size > 0]).max(initial=0)) if (away[size == 0] == 0).all() else np.inf


def assert_solved(task, tolerance=1e-12):
    got, wanted = run_task(closed_form, task), run_task(open_engine("actors"), task)
    for what in PER_TICK:
        assert set(got.seen[what]) == set(wanted.seen[what])
        assert all(off(got.seen[what][name], series) <= tolerance for name, series in wanted.seen[what].items())
    scale = max((np.abs(learnt).max(initial=0) for learnt in wanted.learnt.values()), default=0)
    for name, learnt in wanted.learnt.items():
        assert np.abs(got.learnt[name] - learnt).max(initial=0) <= tolerance * scale
    assert got.fired == wanted.fired


@given(
    document=documents(max_size=7),
    step_size=st.sampled_from(STEP_SIZES),
    form=st.sampled_from(["none", "delay", "identity"]),
    losses=st.sampled_from(["mixed", "squared_error"]),
)
def test_the_closed_form_is_the_simulation_at_every_tick(document, step_size, form, losses):
    """Semantics, section 7, on any graph, with any delays: values, predictions, errors, messages, updates."""
    assert_solved(make_task(document, rule("fpa", step_size=step_size), form, ticks=12, losses=losses))


@given(document=documents(max_size=7))
def test_backprop_on_the_clock_is_solved_as_well(document):
    assert_solved(make_task(document, "bp"))


@given(document=documents(max_size=6), step_size=st.sampled_from(STEP_SIZES))
def test_advancing_to_a_tick_is_going_there_tick_by_tick(document, step_size):
    task = make_task(document, rule("fpa", step_size=step_size), ticks=9)
    session, stepped = closed_form(task), run_task(closed_form, task, ("error",))
    norms = np.zeros((9, len(task.graph.active)))
    session.advance(0, 9, last=True, squares=norms)
    norms = np.sqrt(norms)
    names = [name for names in session.layout() for name in names]
    for column, name in enumerate(names):
        assert np.array_equal(session.reader("error", [name])()[0], stepped.errors[name][-1])
        assert np.allclose(norms[:, column], np.linalg.norm(stepped.errors[name].reshape(9, -1), axis=1), rtol=1e-13)
    assert all(np.array_equal(session.updates()[name], learnt) for name, learnt in stepped.learnt.items())
    session.restart(targets={name: 2 * target for name, target in task.targets.items()})
    session.advance(0, 9, last=True)
    doubled = replace(task, targets={name: 2 * target for name, target in task.targets.items()})
    wanted = run_task(closed_form, doubled, ()).learnt
    assert all(np.array_equal(session.updates()[name], learnt) for name, learnt in wanted.items())


@pytest.mark.parametrize("step_size", [0.01, 0.3, 1.0])
def test_what_has_arrived_is_negative_binomial(step_size):
    table = arrivals(40, 300, step_size)
    for hops in range(41):
        assert np.allclose(table[hops], arrived(hops, np.arange(300), step_size), rtol=1e-10, atol=1e-15)


def chain(depth):
    vertices = {"h0": {"op": "input", "shape": [3]}}
    for number in range(1, depth + 1):
        vertices[f"h{number}"] = {"op": "affine", "units": 3, "activation": "tanh", "inputs": [f"h{number - 1}"]}
    return {"vertices": vertices}


def test_a_deep_chain_over_many_ticks():
    assert_solved(make_task(chain(40), rule("fpa", step_size=0.5), ticks=150, batch=2))


# -- where there is none --------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["il", "zil", "fa-zil", "incremental"])
def test_rules_whose_predictions_move_have_no_closed_form(row):
    with pytest.raises(InputError, match="solve: closed_form needs fixed predictions .* got '" + row):
        closed_form(make_task(chain(2), row))


def test_every_reason_is_given():
    task = make_task(chain(3), rule("fpa", step_size=2.5), ticks=3)
    task = replace(task, step_sizes={"h1": 0.5}, initial={"h1": np.zeros((3, 3))})
    with pytest.raises(InputError) as caught:
        closed_form(task)
    assert [problem.path for problem in caught.value.problems] == [("solve",)] * 3


def test_precisions_are_refused_by_name():
    document = chain(3)
    document["vertices"]["h2"]["precision"] = 2.0
    with pytest.raises(InputError, match="precisions of 1; 'h2' has another"):
        closed_form(make_task(document))


def test_too_many_kinds_of_path_are_refused():
    """Two edges of different delay at every vertex: the kinds of path grow with the square of the depth."""
    vertices = {"h0": {"op": "input", "shape": []}}
    for number in range(1, 240):
        late = {"from": f"h{number - 1}", "delay": 1}
        vertices[f"h{number}"] = {"op": "add", "inputs": [f"h{number - 1}", late]}
    with pytest.raises(InputError, match=f"more than {MOST_KINDS:,}"):
        closed_form(make_task({"vertices": vertices}, batch=1))


def test_numbers_that_end_are_named():
    document = {"vertices": {"x": {"op": "input", "shape": []}, "y": {"op": "log", "inputs": ["x"]}}}
    task = make_task(document)
    with pytest.raises(DomainError, match="vertex 'y' in the feedforward sweep: logarithm"):
        closed_form(replace(task, inputs={"x": np.full(3, -1.0)}))
    steep = make_task(chain(400), rule("fpa", step_size=1.99), dtype="float32", ticks=900, batch=1, away=1e30)
    with pytest.raises(NumberOverflowError, match=r"at tick \d+: its error grew beyond float32"):
        closed_form(steep).advance(0, 900, last=True)
