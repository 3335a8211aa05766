"""Precisions that are learnt: the slope of the free energy, the same run on every engine, an exact resume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.engines import open_engine
from pcsim.errors import InputError
from pcsim.graph.precisions import with_precisions
from pcsim.learn.precision_descent import free_energy, slope

HOST = ["numpy", "actors", "numba"]


def document(rule="il", engine="numpy", ticks=6, **train):
    learnt = {"vertices": ["y"], "rate": 0.2, **train.pop("precision", {})}
    return {
        "graph": {
            "vertices": {
                "x": {"op": "input", "shape": [8]},
                "h": {"op": "affine", "units": 5, "activation": "tanh", "inputs": ["x"]},
                "s": {"op": "affine", "units": 1, "inputs": ["h"]},
                "y": {"op": "expand", "shape": [4], "inputs": ["s"]},
            },
            "outputs": ["y"],
        },
        "inputs": {"x": {"dataset": "sensors", "field": "inputs"}},
        "targets": {"y": {"dataset": "sensors", "field": "targets"}},
        "batch": 8,
        "engine": engine,
        "rule": {"name": rule, "step_size": 0.1, "ticks": ticks} if rule == "il" else rule,
        "train": {"epochs": 2, "samples": 36, "optimiser": {"name": "sgd", "rate": 0.01}, "precision": learnt, **train},
    }


@pytest.mark.parametrize("shape", [(), (3,)], ids=["scalar", "diagonal"])
def test_the_slope_is_that_of_the_free_energy(shape):
    rng = np.random.default_rng(0)
    error, logarithm, step = rng.normal(size=(7, 3)), rng.normal(size=shape), 1e-5
    found = slope(logarithm, error)
    for place in np.ndindex(shape):
        there = np.zeros(shape)
        there[place] = step
        rise = free_energy(logarithm + there, error) - free_energy(logarithm - there, error)
        shared = 3 if shape == () else 1
        assert found[place] * shared == pytest.approx(rise / (2 * step), rel=1e-8)


@pytest.mark.parametrize("precision", [{}, {"form": "scalar"}, {"vertices": ["h", "y"], "errors": "relaxed"}])
@pytest.mark.parametrize("engine", [name for name in HOST if name != "numpy"])
def test_engines_agree(engine, precision):
    one, other = (pcsim.train(document(engine=name, precision=precision)) for name in ("numpy", engine))
    for mine, theirs in ((one.parameters, other.parameters), (one.precisions, other.precisions)):
        for name in mine:
            np.testing.assert_allclose(theirs[name], mine[name], rtol=1e-10, atol=1e-12)
    assert np.any(one.precisions["y"] != 1)


@pytest.mark.parametrize("engine", HOST)
def test_a_session_begins_again_with_other_precisions_as_a_new_one_has_them(engine):
    task = pcsim.load({**document(), "train": None}).task()
    ones, others = {"y": np.ones(4), "h": np.array(1.0)}, {"y": np.array([4.0, 0.5, 0.1, 2.0]), "h": np.array(0.7)}
    start = open_engine(engine)
    session = start(replace(task, graph=with_precisions(task.graph, ones)))
    session.advance(0, task.ticks, last=True)
    session.restart(precisions=others)
    session.advance(0, task.ticks, last=True)
    new = start(replace(task, graph=with_precisions(task.graph, others)))
    new.advance(0, task.ticks, last=True)
    for name, update in new.updates().items():
        assert np.array_equal(session.updates()[name], update)
    assert not np.allclose(backprop(session.task).gradients["s.weight"], backprop(task).gradients["s.weight"])


def test_training_goes_on_bit_for_bit(tmp_path):
    whole = pcsim.train(document())
    half = {"asked": 0}

    def stop(_done):
        half["asked"] += 1
        if half["asked"] == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pcsim.train(document(checkpoint=3), out=tmp_path / "run", progress=stop)
    rest = pcsim.train(resume=tmp_path / "run", out=tmp_path / "run")
    assert np.array_equal(rest.precisions["y"], whole.precisions["y"])
    assert np.array_equal(rest.log["precision_y"], whole.log["precision_y"])
    assert all(np.array_equal(rest.parameters[name], array) for name, array in whole.parameters.items())
    with np.load(tmp_path / "run" / "precisions.npz") as kept:
        assert np.array_equal(kept["y"], whole.precisions["y"])
    assert rest.summary["precision_y"] == pytest.approx(np.exp(np.log(whole.precisions["y"]).mean()))


def test_without_error_a_precision_rises_to_its_bound():
    still = document(epochs=40, precision={"rate": 1.0, "bounds": [0.5, 2.0]})
    inputs, targets = {"x": np.zeros((36, 8))}, {"y": np.zeros((36, 4))}
    assert pcsim.train(still, inputs=inputs, targets=targets).precisions["y"] == pytest.approx([2.0] * 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rule": "zil"}, "equals backprop at precision 1 only"),
        ({"rule": "bp"}, "fixed predictions"),
        ({"train.precision.vertices": ["h"]}, "errors: relaxed"),
        ({"train.precision.vertices": ["nobody"]}, "has no error"),
        ({"loss": "cross_entropy"}, "needs squared_error"),
        ({"train.precision.bounds": [2.0, 1.0]}, "the least precision, then the largest"),
        ({"train.precision.vertices": ["y", "y"]}, "named twice"),
        ({"rule.output_variance": 2.0}, "divides precisions"),
        ({"train.test": {"samples": 8, "by": "inference"}}, "not learnt ones"),
    ],
)
def test_what_cannot_be_learnt_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        pcsim.train(document(), change)


def test_a_session_refuses_precisions_that_it_was_not_made_for():
    task = pcsim.load({**document(), "train": None}).task()
    with pytest.raises(InputError, match="precision that stays"):
        open_engine("numpy")(task).restart(precisions={"y": np.ones(4)})
    changing = open_engine("numpy")(replace(task, graph=with_precisions(task.graph, {"y": np.ones(4)})))
    for wrong, says in ((np.zeros(4), "above 0"), (np.ones(3), "shape")):
        with pytest.raises(InputError, match=says):
            changing.restart(precisions={"y": wrong})
