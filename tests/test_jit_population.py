"""Compiled populations: against the oracle at every tick, on any number of threads, and for no more than is needed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from strategies import VALUE_RULES, make_task, run_task

pytest.importorskip("numba")

from pcsim.engines import open_engine
from pcsim.engines.base import tick_by_tick
from pcsim.engines.jit import pool
from pcsim.engines.jit.kernels import sparse
from pcsim.engines.jit.session import JitSession
from pcsim.ops.synapses.synapse import arranged
from pcsim.rules import rule

SMALL_STEPS = {"il": 0.05, "fpa": 0.3, "incremental": 0.05, "il-variance": 0.05}
NUMBA = open_engine("numba")


def tame(name):
    return rule(name, **({"step_size": SMALL_STEPS[name]} if name in SMALL_STEPS else {}))


def population(pre, units, delays, **more):
    connect = {"rule": "fixed_in_degree", "degree": 3, "multiple": True}
    return {"op": "projection", "units": units, "inputs": [pre], "connect": connect, "delays": delays, **more}


def some_synapses(before, after, delays, count=40, seed=0):
    rng = np.random.default_rng(seed)
    pre, post = rng.integers(before, size=count), rng.integers(after, size=count)
    return arranged(pre, post, rng.choice(delays, count), fan_out=before, units=after)


def chain(late=3):
    mixed = {"uniform": [0, late]} if late else 0
    return {
        "vertices": {
            "x": {"op": "input", "shape": [7]},
            "a": population("x", 9, mixed, activation="tanh"),
            "b": population("a", 11, mixed, activation="sigmoid", precision=0.7),
            "c": population("b", 8, mixed, bias=False),
            "d": population("c", 5, mixed, activation="tanh"),
        }
    }


def branches():
    """Two projections of one step, with equal synapses; messages to ``a`` that come after others and between them."""
    equal = {"op": "projection", "units": 6, "activation": "tanh", "synapses": some_synapses(9, 6, [0, 2, 3])}
    return {
        "vertices": {
            "x": {"op": "input", "shape": [7]},
            "a": population("x", 9, {"uniform": [0, 2]}, activation="tanh"),
            "b": {"op": "affine", "units": 6, "inputs": [{"from": "a", "delay": {"value": 1, "error": 2}}]},
            "p": {**equal, "inputs": ["a"]},
            "q": {**equal, "inputs": [{"from": "a", "delay": {"value": 2, "error": 1}}]},
            "r": {"op": "projection", "units": 6, "inputs": ["x"], "synapses": some_synapses(7, 6, [1, 4], seed=1)},
            "s": {"op": "tanh", "inputs": ["a"]},
            "u": {"op": "add", "inputs": ["b", "p", "q", "r"]},
            "y": population("u", 4, {"uniform": [1, 2]}),
            "z": population("s", 3, 0, activation="sin"),
        }
    }


DOCUMENTS = {"chain": chain(), "without delays": chain(0), "branches": branches()}


def difference(got, wanted):
    """The greatest difference, relative to the largest magnitude of the run where that is above 1."""
    return max(
        float(np.abs(ours[name] - theirs[name]).max(initial=0) / np.abs(theirs[name]).max(initial=1))
        for what, theirs in wanted.items()
        for ours in [got[what]]
        for name in theirs
    )


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks also where there are few synapses."""
    monkeypatch.setattr(sparse, "LEAST", 2)


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("row", list(VALUE_RULES))
@pytest.mark.parametrize(("form", "batch"), [("none", 1), ("delay", 8), ("identity", 3)])
def test_every_quantity_at_every_tick(small_blocks, name, row, form, batch):
    task = make_task(DOCUMENTS[name], tame(row), form, batch=batch, ticks=11, away=0.01, losses="mixed")
    wanted = run_task(open_engine("actors"), task)
    for engine in ("numpy", "numba"):
        run = run_task(open_engine(engine), task)
        assert difference(run.seen, wanted.seen) <= 1e-11
        assert difference({"": run.taught}, {"": wanted.taught}) <= 1e-11
        assert run.fired == wanted.fired


def ending(session):
    errors = [np.array(session.reader(what, names)()) for names in session.layout() for what in ("error", "value")]
    return [*errors, *(session.updates()[name] for name in sorted(session.updates()))]


def same(got, wanted):
    return all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("row", ["il", "fpa", "zil", "bp"])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_threads_and_calls_change_no_bit(small_blocks, monkeypatch, name, row, batch):
    """One thread or more, by neuron or by sample; all ticks at once, in parts, or one by one."""
    for bound in ("WORTH_SHARING", "WORTH_WAKING"):
        monkeypatch.setattr(pool, bound, 0)
    task = make_task(
        DOCUMENTS[name],
        tame(row),
        "delay",
        "float32",
        batch=batch,
        ticks=12,
        away=0.1,
        losses="mixed",
        keep_values=False,
    )
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("PCSIM_THREADS", threads)
        for cuts in ((0, 12), (0, 5, 12), None):
            session = NUMBA(task)
            assert isinstance(session, JitSession)
            if cuts is None:
                tick_by_tick(session, 0, 12, last=True)
            else:
                for first, end in pairwise(cuts):
                    session.advance(first, end, last=end == 12)
            found.append(ending(session))
    assert all(same(each, found[0]) for each in found)


def test_a_restart_forgets_what_was_in_flight():
    task = make_task(chain(), tame("il"), "none", "float32", ticks=9, away=0.1)
    session = NUMBA(task)
    session.advance(0, 7, last=False)
    more = {"targets": {name: 2 * array for name, array in task.targets.items()}}
    session.restart(**more, parameters={"c.weight": task.parameters["c.weight"] * 0.5})
    session.advance(0, 9, last=True)
    fresh = NUMBA(replace(task, **more, parameters=task.parameters | {"c.weight": task.parameters["c.weight"] * 0.5}))
    fresh.advance(0, 9, last=True)
    assert same(ending(session), ending(fresh))


def test_equal_synapses_share_a_step():
    session = NUMBA(make_task(branches(), "il"))
    steps = [one.step.names for one in session.laid_out.projections.values()]
    assert ("p", "q") in steps


def test_ahead_of_the_light_cone_nothing_is_worked_out():
    """Weights that no message has reached may be anything."""
    task = make_task(chain(0), tame("il"), ticks=2, batch=1, away=0.1)
    session = NUMBA(task)
    for one in session.laid_out.projections.values():
        if one.step.names == ("b",):
            one.weights[...] = one.weights_back[...] = np.nan
    session.advance(0, 2, last=False)
    assert np.abs(session.reader("error", ["c"])()).max() > 0
    assert not session.reader("error", ["b"])().any()
    assert np.isfinite(session.reader("value", ["a"])()).all()


def test_what_was_sent_under_other_weights_is_not_worked_out_late():
    """Where weights change at every tick, a late message holds those of its own tick."""
    late, now = (NUMBA(make_task(chain(delay), tame("incremental"))) for delay in (2, 0))
    assert late.executed()["c"] == "numpy: its weights change while errors are on their way"
    assert set(now.executed().values()) == {"numba"}


def tiny(row, size=1e-39):
    vertices = {
        "x": {"op": "input", "shape": [7]},
        "p": {"op": "affine", "units": 7, "inputs": ["x"]},
        "q": population("p", 9, 0, activation="tanh", bias=False, init={"weight": {"constant": 0.5}}),
    }
    task = make_task({"vertices": vertices}, row, "none", "float32", ticks=2, batch=1)
    weights = task.parameters["q.weight"]
    zeros = {
        key: {name: array if array is weights else np.zeros_like(array) for name, array in getattr(task, key).items()}
        for key in ("inputs", "parameters")
    }
    return replace(task, **zeros, targets={"q": np.full_like(task.targets["q"], size)})


@pytest.mark.skipif(sparse.MACHINE not in sparse.FLUSHING, reason="numbers are flushed only where it is known how")
@pytest.mark.parametrize("row", ["fpa", "il", "fa-zil"])
def test_subnormal_errors_end_at_a_population_unless_they_are_waited_for(row):
    """The error itself is there to be read; it goes on only where a vertex learns when its error leaves zero."""
    session = NUMBA(tiny(rule(row, **({} if row == "fa-zil" else {"ticks": 2}))))
    session.predict(0)
    session.send(0)
    session.deliver(0)
    assert (session.reader("error", ["q"])() == np.float32(1e-39)).all()
    session.move()
    session.predict(1)
    reached = session.reader("error", ["p"])()
    assert reached.any() == (row == "fa-zil")
    assert np.float32(1e-30) * np.float32(1e-10) > 0


def test_messages_that_end_are_named():
    task = make_task(chain(), rule("il", step_size=1e6), ticks=200, away=1.0)
    texts = []
    for engine in ("numpy", "numba"):
        session = open_engine(engine)(task)
        with pytest.raises(Exception, match=r"grew beyond float64$") as caught:
            session.advance(0, 200, last=True)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
