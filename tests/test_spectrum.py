"""The largest stable step of inference: the curvature of the free energy, and training that follows it."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import make_task

import pcsim
from pcsim.analysis.spectrum import largest_eigenvalue
from pcsim.errors import InputError


def chain(depth, weight=1.0):
    vertices = {"x0": {"op": "input", "shape": []}}
    for number in range(1, depth + 1):
        vertices[f"x{number}"] = {"op": "multiply", "inputs": [f"x{number - 1}", "w"]}
    vertices["w"] = {"op": "constant", "value": weight, "shape": []}
    return {"vertices": vertices, "outputs": [f"x{depth}"]}


@pytest.mark.parametrize("weight", [1.0, 0.7, 1.6])
def test_the_largest_eigenvalue_of_a_linear_chain_is_that_of_its_closed_form(weight):
    task = make_task(chain(6, weight), "il", "none", "float64", seed=1, batch=2)
    wanted = 1 + weight**2 + 2 * weight * np.cos(np.pi / 6)
    assert largest_eigenvalue(task, 400) == pytest.approx(wanted, rel=1e-6)


def test_it_tells_stable_steps_from_unstable_ones():
    graph = {"vertices": {"x": {"op": "input", "shape": [5]},
                          "a": {"op": "affine", "units": 7, "activation": "tanh", "inputs": ["x"]},
                          "b": {"op": "affine", "units": 6, "activation": "tanh", "inputs": ["a"]},
                          "s": {"op": "affine", "units": 6, "inputs": ["a"]},
                          "c": {"op": "add", "inputs": ["b", "s"]},
                          "y": {"op": "affine", "units": 3, "inputs": ["c"]}}, "outputs": ["y"]}  # fmt: skip
    document = {
        "graph": graph,
        "inputs": {"x": {"normal": [0, 1]}},
        "targets": {"y": {"normal": [0, 1e-6]}},
        "batch": 3,
    }
    scenario = pcsim.load({**document, "rule": {"name": "il", "ticks": 3000}})
    small = {name: 0.1 * np.array(array) for name, array in scenario.parameters().items()}
    bound = 2 / largest_eigenvalue(scenario.with_parameters(small).task(), 400)
    ended = []
    for share in (0.97, 1.03):
        rule = {"name": "il", "ticks": 3000, "step_size": bound * share}
        with np.errstate(all="ignore"):
            run = pcsim.simulate(pcsim.load({**document, "rule": rule}).with_parameters(small))
        norms = sum(run.series("norm", name).values for name in "abcs")
        ended.append(norms[-1] / norms[100])
    assert ended[0] <= 1.01
    assert ended[1] > 2


def test_delays_are_refused():
    graph = chain(3)
    graph["vertices"]["x2"]["inputs"] = [{"from": "x1", "delay": 1}, "w"]
    with pytest.raises(InputError, match="edges have delays"):
        largest_eigenvalue(make_task(graph, "il", "none", "float64", seed=1, batch=2))


COLLAPSE = "scenarios/train-collapse.yaml"


def test_a_net_that_collapses_under_a_fixed_step_trains_to_its_end_under_one_that_follows():
    fixed = pcsim.train(COLLAPSE, {"train.step_size": None})
    begun = pcsim.load(COLLAPSE)
    assert begun.rule.step_size < 2 / largest_eigenvalue(begun.task())  # stable, when it begins
    assert fixed.log["epoch_loss"].values.argmin() < 3
    assert fixed.summary["loss"] > 1.5 * float(fixed.log["epoch_loss"].min())
    done = pcsim.train(COLLAPSE)
    assert done.log["step_size"].values[-1] < 0.3
    assert done.summary["loss"] < 0.1 * fixed.summary["loss"]
    assert done.summary["test_accuracy"] > 0.85 > fixed.summary["test_accuracy"]


def test_training_that_follows_the_spectrum_goes_on_exactly(tmp_path):
    def ended(done):
        if done.step == 25:
            raise KeyboardInterrupt

    often = {"train.checkpoint": 10, "train.steps": 40}
    whole = pcsim.train(COLLAPSE, often)
    with pytest.raises(KeyboardInterrupt):
        pcsim.train(COLLAPSE, often, out=tmp_path / "a", progress=ended)
    again = pcsim.train(COLLAPSE, often, resume=tmp_path / "a")
    for name, wanted in whole.parameters.items():
        assert np.array_equal(again.parameters[name], wanted)


@pytest.mark.parametrize("rule", ["fpa", "zil"])
def test_rules_that_need_no_spectrum_refuse_it(rule):
    with pytest.raises(InputError, match="needs none"):
        pcsim.train(COLLAPSE, {"rule": rule})
