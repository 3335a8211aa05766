"""Steps without a kernel: each is one array call between compiled segments, and costs no other step its kernel."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from strategies import VALUE_RULES, Features, make_task, random_document, run_task
from test_engines import TOLERANCE, far_apart, nudged, outcome, rounding, scaled_difference, series_of, tame

pytest.importorskip("numba", reason="the compiled engine needs Numba")

from pcsim.engines import open_engine
from pcsim.engines.base import tick_by_tick
from pcsim.engines.jit import kinds, pool
from pcsim.errors import RunError
from pcsim.ops import LOSSES, OPS
from pcsim.ops.op import Loss
from pcsim.rules import RULES, Firing, rule

NUMBA = open_engine("numba")


STRANGERS = {"stranger": "tanh", "strange_layer": "affine", "strange_sum": "add", "strange_neuron": "weighted_sum"}


@pytest.fixture(autouse=True)
def strangers(monkeypatch):
    """Ops as a user would register them: none of them has a kernel."""
    for name, known in STRANGERS.items():
        monkeypatch.setitem(OPS, name, replace(OPS[known], name=name))


def layer(pre, units=3, op="affine", **more):
    return {"op": op, "units": units, "inputs": [pre], "activation": "tanh", **more}


LATE = {"value": 1, "error": 2}
LAYERS = {
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "a": layer("x"),
        "b": layer("a", op="strange_layer"),
        "c": layer("b", precision=0.7),
        "s": {"op": "stranger", "inputs": [{"from": "a", "delay": LATE}]},
        "y": {"op": "add", "inputs": ["c", "s"]},
        "z": layer("s", op="strange_layer"),
    }
}
"""Layers with a skip edge; delays into a step without a kernel, and it is an output as well."""

PLAIN = {
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "a": layer("x"),
        "b": {"op": "stranger", "inputs": ["a"]},
        "t": {"op": "tanh", "inputs": ["b"]},
        "c": layer("t"),
        "d": {"op": "multiply", "inputs": ["b", "c"]},
        "y": {"op": "add", "inputs": ["d", "a"]},
    }
}
"""No delay and no precision: next to the step without a kernel errors flow without messages."""

SCALARS = {
    "vertices": {
        "x": {"op": "input", "shape": []},
        "a": {"op": "tanh", "inputs": ["x"]},
        "b": {"op": "stranger", "inputs": ["a"]},
        "c": {"op": "strange_neuron", "inputs": ["a", "b"]},
        "d": {"op": "weighted_sum", "inputs": [{"from": "b", "delay": 2}, "c"]},
        "e": {"op": "multiply", "inputs": ["c", "d"]},
        "y": {"op": "strange_sum", "inputs": ["e", "a"]},
    }
}

SPARSE = {"rule": "fixed_in_degree", "degree": 3, "multiple": True}
POPULATIONS = {
    "vertices": {
        "x": {"op": "input", "shape": [7]},
        "a": {"op": "projection", "units": 9, "inputs": ["x"], "connect": SPARSE, "activation": "tanh"},
        "b": {"op": "stranger", "inputs": [{"from": "a", "delay": LATE}]},
        "c": {"op": "projection", "units": 8, "inputs": ["b"], "connect": SPARSE, "delays": {"uniform": [0, 3]}},
        "y": {"op": "projection", "units": 4, "inputs": ["c"], "connect": SPARSE, "activation": "sigmoid"},
    }
}
DOCUMENTS = {"layers": LAYERS, "plain": PLAIN, "scalars": SCALARS, "populations": POPULATIONS}


def assert_as_actors(run, task):
    """Assert what ``test_engines`` asks of every engine: what differs from actors is rounding."""
    dtype, wanted = task.dtype.name, run_task(open_engine("actors"), task)
    if far := far_apart(run, wanted, TOLERANCE[dtype]):
        others = [series_of(run_task(open_engine("actors"), nudged(task, draw))) for draw in range(3)]
        for key, (ours, theirs) in far.items():
            known = max(scaled_difference(other[key], theirs) for other in others)
            assert scaled_difference(ours, theirs) <= max(8 * known, rounding(wanted, task.graph, *key)), key


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("row", list(VALUE_RULES))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("batch", "threads"), [(1, "1"), (1, "2"), (64, "2")])
def test_every_quantity_at_every_tick_is_that_of_actors(monkeypatch, name, row, dtype, batch, threads):
    monkeypatch.setenv("PCSIM_THREADS", threads)
    monkeypatch.setattr(pool, "WORTH_SHARING", 0)
    for form in ("none", "delay"):
        task = make_task(DOCUMENTS[name], tame(row), form, dtype, batch=batch, ticks=6, away=0.01, losses="mixed")
        assert_as_actors(run_task(NUMBA, task), task)


def ending(session):
    read = [np.array(session.reader(what, names)()) for names in session.layout() for what in ("error", "value")]
    return [*read, *(session.updates()[name] for name in sorted(session.updates()))]


def same(got, wanted):
    return all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("row", list(VALUE_RULES))
@pytest.mark.parametrize(("batch", "threads"), [(1, "1"), (1, "2"), (64, "2"), (64, "3")])
def test_blocks_of_ticks_are_those_ticks_one_by_one(monkeypatch, name, row, batch, threads):
    monkeypatch.setenv("PCSIM_THREADS", threads)
    for bound in ("WORTH_SHARING", "WORTH_WAKING"):
        monkeypatch.setattr(pool, bound, 0)
    form = "none" if row in ("il", "fpa") else "delay"
    task = make_task(DOCUMENTS[name], tame(row), form, "float32", batch=batch, ticks=12, away=0.01, losses="mixed")
    stepped = NUMBA(task)
    tick_by_tick(stepped, 0, 12, last=True)
    norms = np.full((12, len(task.graph.active)), np.nan)
    for cuts in ((0, 12), (0, 5, 6, 12)):
        session = NUMBA(task)
        for first, end in pairwise(cuts):
            session.advance(first, end, last=end == 12, squares=norms[first:end])
        assert same(ending(session), ending(stepped))
        session.restart()
        session.advance(0, 12, last=True)
        assert same(ending(session), ending(stepped))
        assert np.isfinite(norms).all()


@pytest.mark.parametrize("row", ["il", "fpa", "zil"])
def test_squares_are_those_of_the_errors(row):
    for document in (PLAIN, LAYERS):
        task = make_task(document, tame(row), "none", ticks=7, away=0.1, batch=8)
        norms, wanted = (np.full((7, len(task.graph.active)), np.nan) for _ in range(2))
        NUMBA(task).advance(0, 7, last=True, squares=norms)
        open_engine("numpy")(task).advance(0, 7, last=True, squares=wanted)
        np.testing.assert_allclose(norms, wanted, rtol=1e-12, atol=1e-14)


def test_other_steps_keep_their_kernels():
    ran = NUMBA(make_task(LAYERS, "il")).executed()
    assert ran["b"] == "numpy: op 'strange_layer' has no kernel"
    assert {name for name, engine in ran.items() if engine == "numba"} == {"a", "c", "y"}


def test_a_graph_without_any_kernel_is_played():
    vertices = {"x": {"op": "input", "shape": [3]}, "a": {"op": "stranger", "inputs": ["x"]}}
    vertices["y"] = layer("a", op="strange_layer")
    for row in VALUE_RULES:
        task = make_task({"vertices": vertices}, tame(row), "delay", ticks=6, away=0.1, batch=4)
        session, other = NUMBA(task), open_engine("numpy")(task)
        assert all(engine.startswith("numpy: ") for engine in session.executed().values())
        for each in (session, other):
            each.advance(0, 6, last=True)
        for ours, theirs in zip(ending(session), ending(other), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def steep(xp, mu, target):
    return xp.sinh(target - mu)


ODD = Loss("odd", "a third loss", lambda xp, mu, target: (xp.cosh(target - mu) - 1).sum(axis=-1), steep)


@pytest.mark.parametrize("row", ["il", "fpa", "incremental", "il-variance"])
def test_a_loss_without_a_kernel_makes_its_step_an_array_call(monkeypatch, row):
    monkeypatch.setitem(LOSSES, "odd", ODD)
    document = {"vertices": {"x": {"op": "input", "shape": [3]}, "a": layer("x"), "y": layer("a", 2)}}
    task = make_task(document, tame(row), ticks=9, away=0.5)
    task = replace(task, losses={"y": "odd"})
    run = run_task(NUMBA, task)
    assert_as_actors(run, task)
    moves = RULES[row].moving
    assert run.session.executed()["y"] == ("numpy: loss 'odd' has no kernel" if moves else "numba")
    assert run.session.executed()["a"] == "numba"
    blocks, stepped = NUMBA(task), NUMBA(task)
    blocks.advance(0, 9, last=True)
    tick_by_tick(stepped, 0, 9, last=True)
    assert same(ending(blocks), ending(stepped))


@pytest.mark.parametrize("missing", ["affine", "weighted_sum", "tanh", "add", "projection", "concat"])
@pytest.mark.parametrize("row", list(VALUE_RULES))
def test_random_graphs_in_which_some_op_has_no_kernel(monkeypatch, row, missing):
    """As many ticks at once as one by one, bit for bit; and what actors say."""
    monkeypatch.delitem(kinds.KINDS, missing)
    reached = 0
    for seed in range(10):
        often = (*Features().ops, *[missing] * 8)
        document = random_document(seed, Features(8, often, precision=seed % 2 == 1, dead_ends=seed % 5 == 0))
        form = ("none", "delay", "identity")[seed % 3]
        task = make_task(document, tame(row), form, "float64", seed, 1 + seed % 3, ticks=6, away=1e-3, losses="mixed")
        wanted, run = outcome(open_engine("actors"), task), outcome(NUMBA, task)
        if isinstance(wanted, RunError):
            assert type(run) is type(wanted)
            continue
        assert_as_actors(run, task)
        blocks, stepped = NUMBA(task), NUMBA(task)
        blocks.advance(0, 3, last=False)
        blocks.advance(3, 6, last=True)
        tick_by_tick(stepped, 0, 6, last=True)
        assert same(ending(blocks), ending(stepped))
        reached += any(engine.startswith("numpy") for engine in run.session.executed().values())
    assert reached >= 2


def test_ahead_of_the_light_cone_a_step_without_a_kernel_is_not_called(monkeypatch):
    calls = []

    def counted(xp, call, params, inputs):
        calls.append(1)
        return OPS["tanh"].forward(xp, call, params, inputs)

    monkeypatch.setitem(OPS, "counted", replace(OPS["tanh"], name="counted", forward=counted))
    vertices = {"x": {"op": "input", "shape": [3]}, "h0": layer("x"), "s": {"op": "counted", "inputs": ["h0"]}}
    vertices |= {f"h{n}": layer(f"h{n - 1}" if n > 1 else "s") for n in range(1, 9)}
    session = NUMBA(make_task({"vertices": vertices}, tame("il"), ticks=30, away=0.1))
    before = len(calls)
    session.advance(0, 9, last=False)
    assert len(calls) == before
    session.advance(9, 20, last=False)
    assert len(calls) > before


def test_numbers_that_end_in_a_step_without_a_kernel_are_named(monkeypatch):
    monkeypatch.setitem(OPS, "growing", replace(OPS["exp"], name="growing"))
    vertices = {"x": {"op": "input", "shape": []}, "h": {"op": "identity", "inputs": ["x"]}}
    vertices |= {"e": {"op": "growing", "inputs": ["h"]}, "y": {"op": "growing", "inputs": ["e"]}}
    task = make_task({"vertices": vertices}, rule("il", step_size=1e4), ticks=200, away=1.0)
    texts = []
    for engine in ("numpy", "numba"):
        session = open_engine(engine)(task)
        with pytest.raises(RunError) as caught:
            session.advance(0, 200, last=True)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    task.inputs["x"][...] = 1000.0
    for engine in ("numpy", "numba"):
        with pytest.raises(RunError, match="vertex 'e' in the feedforward sweep: its value grew beyond float64"):
            open_engine(engine)(task)


OUTPUTS_LAST = Firing("outputs last", "outputs alone, in the last tick", lambda _t, level, last: last & (level == 0),
                      only_last=True)  # fmt: skip
APPLIES_LAST = Firing("applies last", "in the last tick, at once", lambda _t, _level, last: last,
                      only_last=True, applies=True)  # fmt: skip
ODD_TICKS = Firing("odd ticks", "at every other tick", lambda tick, level, _last: (tick % 2 == 1) & (level >= 0))


POLICIES = [(row, policy) for row in ("il", "fpa") for policy in (OUTPUTS_LAST, ODD_TICKS)] + [("il", APPLIES_LAST)]


@pytest.mark.parametrize(("row", "policy"), POLICIES)
def test_a_firing_policy_that_is_not_known_fires_as_it_says(row, policy):
    for document in (LAYERS, PLAIN):
        task = make_task(document, replace(tame(row), fires=policy), ticks=7, away=0.1)
        wanted, stepped, blocks = open_engine("actors")(task), NUMBA(task), NUMBA(task)
        for each in (wanted, stepped):
            tick_by_tick(each, 0, 7, last=True)
        blocks.advance(0, 4, last=False)
        blocks.advance(4, 7, last=True)
        for session in (stepped, blocks):
            assert session.fired() == wanted.fired()
            for what in ("updates", "parameters"):
                theirs = getattr(wanted, what)()
                for name, ours in getattr(session, what)().items():
                    np.testing.assert_allclose(ours, theirs[name], rtol=1e-10, atol=1e-12)
