"""The state of the compiled engine: taken out, put into another session, and the run is the same run."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import VALUE_RULES, Features, make_task, random_document
from test_engines import outcome, tame
from test_jit_array_steps import DOCUMENTS, ending, same, strangers  # noqa: F401
from test_jit_population import DOCUMENTS as POPULATIONS

pytest.importorskip("numba", reason="the compiled engine needs Numba")

from pcsim.engines import open_engine
from pcsim.engines.base import tick_by_tick
from pcsim.errors import RunError
from pcsim.rules import RULES

NUMBA, TICKS = open_engine("numba"), 11
ALL = {**DOCUMENTS, **{f"population {name}": document for name, document in POPULATIONS.items()}}


def finish(session, first):
    """Run to the end; what is read is the last tick, as it stands before anything moves."""
    last = TICKS - 1
    session.advance(first, last, last=False)
    session.predict(last)
    session.send(last)
    session.deliver(last)
    read = [np.array(session.reader(what, names)()) for names in session.layout() for what in ("error", "value")]
    session.learn(last, last=True)
    session.move()
    return [*read, *(session.updates()[name] for name in sorted(session.updates()))], session.fired()


def whole(start, task):
    return finish(start(task), 0)


def in_two(before, after, task, cut):
    """Run to a tick on one engine, and on from its state on another; a session that has run before takes it up."""
    first, second = before(task), after(task)
    first.advance(0, cut, last=False)
    second.advance(0, 2, last=False)
    second.load(first.snapshot())
    return finish(second, cut)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("row", list(VALUE_RULES))
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_run_goes_on_from_its_state_bit_for_bit(name, row, cut):
    form = "delay" if row in ("zil", "fa-zil", "bp") else "none"
    task = make_task(ALL[name], tame(row), form, "float32", batch=8, ticks=TICKS, away=0.01, losses="mixed")
    wanted, got = whole(NUMBA, task), in_two(NUMBA, NUMBA, task, cut)
    assert same(got[0], wanted[0])
    assert got[1] == wanted[1]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("row", list(VALUE_RULES))
@pytest.mark.parametrize(("before", "after"), [("actors", "numba"), ("numba", "numpy"), ("numba", "actors")])
def test_a_run_goes_on_from_the_state_of_another_engine(name, row, before, after):
    form = "delay" if row in ("zil", "fa-zil", "bp") else "none"
    task = make_task(ALL[name], tame(row), form, batch=3, ticks=TICKS, away=1e-3, losses="mixed")
    wanted = whole(open_engine("actors"), task)
    got = in_two(open_engine(before), open_engine(after), task, 5)
    for ours, theirs in zip(got[0], wanted[0], strict=True):
        scale = max(np.abs(theirs).max(initial=0), 1)
        assert np.abs(ours - theirs).max(initial=0) <= 1e-10 * scale
    assert got[1] == wanted[1]


@pytest.mark.parametrize("row", list(VALUE_RULES))
def test_random_graphs_go_on_bit_for_bit(row):
    for seed in range(20):
        document = random_document(seed, Features(size=8, precision=seed % 2 == 1, dead_ends=seed % 5 == 0))
        form = ("none", "delay", "identity")[seed % 3]
        task = make_task(document, tame(row), form, "float32", seed, 2, ticks=TICKS, away=1e-3, losses="mixed")
        if isinstance(outcome(NUMBA, task), RunError):
            continue
        wanted = whole(NUMBA, task)
        assert same(in_two(NUMBA, NUMBA, task, 1 + seed % 9)[0], wanted[0])


@pytest.mark.parametrize("row", ["il", "fpa", "il-variance"])
def test_single_ticks_and_blocks_may_be_mixed(row):
    """Recorded ticks run one by one, those between in one call."""
    for document in ALL.values():
        task = make_task(document, tame(row), "none", "float32", batch=8, ticks=TICKS, away=0.01, losses="mixed")
        session = NUMBA(task)
        session.advance(0, 3, last=False)
        tick_by_tick(session, 3, 6, last=False)
        session.advance(6, TICKS, last=True)
        at_once = NUMBA(task)
        at_once.advance(0, TICKS, last=True)
        assert same(ending(session), ending(at_once))


def test_numbers_that_end_after_a_state_was_loaded_are_named_from_there():
    vertices = {"x": {"op": "input", "shape": []}, "h": {"op": "tanh", "inputs": ["x"]}}
    vertices |= {"y": {"op": "square", "inputs": ["h"]}}
    task = make_task({"vertices": vertices}, "il", ticks=400, away=1.0)
    calm, wild = NUMBA(task), NUMBA(make_task({"vertices": vertices}, RULES["il"].__class__(
        **{**vars(RULES["il"]), "step_size": 1e6}), ticks=400, away=1.0))  # fmt: skip
    calm.advance(0, 3, last=False)
    wild.load(calm.snapshot())
    with pytest.raises(RunError, match=r"vertex '\w+' at tick \d+: .* grew beyond float64"):
        wild.advance(3, 400, last=True)


@pytest.mark.parametrize("name", ["population chain", "layers"])
def test_a_state_of_another_engine_leaves_readers_and_references_as_they_are(name):
    task = make_task(ALL[name], tame("il"), "none", batch=3, ticks=TICKS, away=1e-3)
    session, other = NUMBA(task), open_engine("actors")(task)
    edges = [edge.name for edge in task.graph.edges if task.graph.carries_errors(edge)]
    reads = [(edge, session.reader("error message", [edge]), other.reader("error message", [edge])) for edge in edges]
    references = {vertex: np.full((3, *task.graph.vertices[vertex].shape), 0.1) for vertex in task.graph.active}
    session.compare_with(references)
    session.advance(0, 2, last=False)
    other.advance(0, 5, last=False)
    session.load(other.snapshot())
    for each in (session, other):
        each.predict(5)
        each.send(5)
        each.deliver(5)
    for _, ours, theirs in reads:
        np.testing.assert_allclose(ours(), theirs(), rtol=0, atol=1e-12)
    for each in (session, other):
        each.learn(5, last=False)
        each.move()
    other.compare_with(references)
    apart, wanted = (np.zeros((3, len(task.graph.active))) for _ in range(2))
    session.advance(6, 9, last=False, apart=apart)
    other.advance(6, 9, last=False, apart=wanted)
    columns = {vertex: place for place, vertex in enumerate(v for names in other.layout() for v in names)}
    order = [columns[vertex] for names in session.layout() for vertex in names]
    np.testing.assert_allclose(apart, wanted[:, order], rtol=1e-9)
