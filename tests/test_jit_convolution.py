"""Compiled convolutions and pooling: every form of product beside the array engine, and no bit depends on threads."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import make_task, run_task

pytest.importorskip("numba", reason="the compiled engine needs Numba")

from pcsim.engines import open_engine
from pcsim.engines.jit import sliding_windows
from pcsim.engines.jit.kernels.common import STEP
from pcsim.engines.jit.kernels.convolution import CONV
from pcsim.engines.jit.session import JitSession
from pcsim.engines.jit.verifier import verify


def chain(shape, *layers):
    vertices = {"v0": {"op": "input", "shape": shape}}
    for number, (op, attributes) in enumerate(layers):
        vertices[f"v{number + 1}"] = {"op": op, "inputs": [f"v{number}"], **attributes}
    return {"vertices": vertices, "outputs": [f"v{len(layers)}"]}


CHAINS = {
    "two axes, with all attributes": chain(
        [3, 9, 11],
        ("conv", {"channels": 4, "kernel": [3, 5], "padding": [1, [2, 0]], "activation": "tanh"}),
        ("conv", {"channels": 6, "kernel": [3, 2], "stride": [2, 3], "dilation": [1, 2], "padding": 1, "groups": 2}),
        ("max_pool", {"kernel": [2, 2], "stride": 1, "padding": [1, 0]}),
        ("average_pool", {"kernel": [2, 2], "padding": 1, "ceil": True}),
        ("conv", {"channels": 40, "kernel": [1, 1]}),
    ),
    "one axis, two images a sample": chain(
        [2, 3, 17],
        ("conv", {"channels": 4, "kernel": [3], "activation": "tanh"}),
        ("max_pool", {"kernel": [2]}),
        ("conv", {"channels": 2, "kernel": [2], "padding": 1}),
    ),
    "three axes": chain(
        [3, 3, 4, 5],
        ("conv", {"channels": 4, "kernel": [2, 2, 2], "activation": "sigmoid", "padding": 1}),
        ("average_pool", {"kernel": [2, 1, 2], "dilation": 2, "stride": 1}),
        ("conv", {"channels": 4, "kernel": [1, 1, 2], "bias": False, "groups": 2}),
    ),
    "kernels of which one element sees the image": chain(
        [4, 2, 3],
        ("conv", {"channels": 6, "kernel": [2, 3], "activation": "tanh"}),
        ("conv", {"channels": 8, "kernel": [3, 3], "padding": 1, "groups": 2, "activation": "tanh"}),
        ("conv", {"channels": 35, "kernel": [3, 2], "padding": 2, "stride": 4, "dilation": [1, 2]}),
    ),
    "long lines, many channels": chain(
        [2, 5, 37],
        ("conv", {"channels": 35, "kernel": [3, 3], "padding": 1}),
        ("conv", {"channels": 3, "kernel": [3, 4], "padding": [2, 3], "dilation": [2, 1]}),
    ),
}


def runs(document, row, batch, monkeypatch, threads="1", dtype="float64"):
    monkeypatch.setenv("PCSIM_THREADS", threads)
    task = make_task(document, row, "none", dtype, seed=1, batch=batch, ticks=4, away=1.0)
    return task, run_task(JitSession, task)


@pytest.fixture(params=["chosen", "side by side", "a line at a time"])
def laid(request, monkeypatch):
    """Each way of multiplying: as cost says, all windows side by side, and in the smallest blocks."""
    if request.param != "chosen":
        ways = dict.fromkeys(("forward", "back", "learn"), -1)
        monkeypatch.setattr(sliding_windows, "ways_of", lambda *_: ways)
    if request.param == "a line at a time":
        for least in ("LAID", "LEAST"):
            monkeypatch.setattr(sliding_windows, least, 1)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("row", ["il", "fpa"])
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.usefixtures("laid")
def test_every_quantity_is_that_of_arrays(monkeypatch, name, row, batch):
    task, mine = runs(CHAINS[name], row, batch, monkeypatch)
    verify(mine.session)
    assert set(mine.session.executed().values()) == {"numba"}
    theirs = run_task(open_engine("numpy"), task)
    for what, series in mine.seen.items():
        for vertex, found in series.items():
            np.testing.assert_allclose(found, theirs.seen[what][vertex], rtol=1e-11, atol=1e-12, err_msg=what + vertex)
    for parameter, found in mine.learnt.items():
        np.testing.assert_allclose(found, theirs.learnt[parameter], rtol=1e-11, atol=1e-11, err_msg=parameter)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.usefixtures("laid")
def test_no_bit_depends_on_threads(monkeypatch, name):
    monkeypatch.setattr("pcsim.engines.jit.pool.WORTH_SHARING", 0)
    alone, shared = (runs(CHAINS[name], "il", 8, monkeypatch, threads, "float32")[1] for threads in ("1", "3"))
    assert shared.session.threads > 1
    for vertex in alone.errors:
        assert np.array_equal(alone.errors[vertex], shared.errors[vertex])
    for parameter in alone.learnt:
        assert np.array_equal(alone.learnt[parameter], shared.learnt[parameter])


def records(session):
    """Return the record of each convolution of a session."""
    places = [session.laid_out.steps[id(step)] for step in session.program.steps if step.op.name == "conv"]
    return [CONV.view(session.table, int(STEP.view(session.table, place)["own"][0]))[0] for place in places]


def test_every_way_is_taken(monkeypatch):
    ways, alone = set(), set()
    for document in CHAINS.values():
        for own in records(runs(document, "il", 5, monkeypatch)[1].session):
            ways |= {(name, bool(own[name] >= 0)) for name in ("forward", "back", "learn")}
            alone.add(bool(own["apart"] > 1))
    assert ways == {(name, way) for name in ("forward", "back", "learn") for way in (True, False)}
    assert alone == {True, False}
