"""Feedback with weights of its own: every engine agrees with ``actors``, it is kept along training, and it aligns."""

from __future__ import annotations

import numpy as np
import pytest

import pcsim
from pcsim.engines import ENGINES
from pcsim.errors import InputError
from pcsim.learn.alignment import angle
from pcsim.ops import FEEDBACKS

KINDS = tuple(name for name, row in FEEDBACKS.items() if not row.symmetric)
ENGINE_NAMES = [name for name, row in ENGINES.items() if name in ("actors", "numpy", "numba")]


def scenario(feedback, rule="zil", **train):
    hidden = {"op": "affine", "units": 8, "activation": "tanh"}
    back = {} if feedback is None else {"feedback": feedback}
    return {
        "pcsim": "scenario/1",
        "graph": {
            "vertices": {
                "x": {"op": "input", "shape": [6]},
                "h1": {**hidden, "inputs": ["x"]},
                "h2": {**hidden, "inputs": ["h1"], **back},
                "y": {"op": "affine", "units": 3, "inputs": ["h2"], **back},
            },
            "outputs": ["y"],
        },
        "inputs": {"x": {"normal": [0, 1]}},
        "targets": {"y": {"normal": [0, 1]}},
        "batch": 8,
        "rule": {"name": rule, **({} if rule == "zil" else {"step_size": 0.2, "ticks": 12})},
        "train": {
            "optimiser": {"name": "momentum", "rate": 0.1, "weight_decay": 0.02},
            "samples": 64,
            "epochs": 4,
            "compare": {"every": 4},
            **train,
        },
    }


@pytest.mark.parametrize("rule", ["il", "fpa", "zil"])
@pytest.mark.parametrize("feedback", KINDS)
def test_engines_learn_what_actors_learn(feedback, rule):
    document = scenario(feedback, rule, epochs=1)
    expected = pcsim.train(document, engine="actors")
    for engine in ENGINE_NAMES:
        done = pcsim.train(document, engine=engine)
        for part in ("parameters", "buffers"):
            for name, array in getattr(expected, part).items():
                np.testing.assert_allclose(getattr(done, part)[name], array, rtol=0, atol=1e-12)


def by_hand(loaded, feedback):
    """Return what each weight learns by bp: other weights in place of W^T, and no slope where the row says so."""
    p, b, row = loaded.parameters(), loaded.buffers(), FEEDBACKS[feedback]
    layers = (("h1", "x"), ("h2", "h1"), ("h3", "h2"))
    values, slopes, learnt = {"x": loaded.inputs()["x"]}, {}, {}
    for name, pre in layers:
        values[name] = np.tanh(values[pre] @ p[f"{name}.weight"].T + p[f"{name}.bias"])
        slopes[name] = 1 - values[name] ** 2
    error = loaded.targets()["h3"] - values["h3"]
    for name, pre in reversed(layers):
        weight = p[f"{name}.weight"]
        learnt[f"{name}.weight"] = (slopes[name] * error).T @ values[pre]
        back = b.get(f"{name}.feedback_weight", weight)
        back = np.sign(weight) * np.abs(weight).mean() if feedback == "sign" else back
        error = (error * (slopes[name] if row.slopes else 1)) @ back
    return learnt


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("feedback", KINDS)
def test_updates_are_those_of_a_loop_over_layers(feedback, engine):
    layer = {"op": "affine", "units": 5, "activation": "tanh", "feedback": feedback}
    chain = {f"h{level}": {**layer, "inputs": [f"h{level - 1}" if level > 1 else "x"]} for level in (1, 2, 3)}
    graph = {"vertices": {"x": {"op": "input", "shape": [6]}, **chain}, "outputs": ["h3"]}
    rng = np.random.default_rng(0)
    loaded = pcsim.load({"graph": graph, "batch": 4, "rule": "bp", "measure": []})
    loaded = loaded.with_data({"x": rng.normal(size=(4, 6))}, {"h3": rng.normal(size=(4, 5))})
    updates = pcsim.simulate(loaded, engine=engine).updates
    for name, wanted in by_hand(loaded, feedback).items():
        np.testing.assert_allclose(updates[name], wanted, rtol=1e-12, atol=1e-14)


def test_feedback_is_what_the_error_messages_travel_over():
    """Given the forward weights, random feedback is symmetric feedback: bit for bit where both are actors."""
    plain, other = pcsim.load(scenario(None)), pcsim.load(scenario("random"))
    theta = other.parameters()
    same = {"h2.feedback_weight": theta["h2.weight"], "y.feedback_weight": theta["y.weight"]}
    for engine in ENGINE_NAMES:
        start = pcsim.simulate(other.with_parameters(same), engine=engine).updates
        away = pcsim.simulate(other, engine=engine).updates
        for name, array in pcsim.simulate(plain.with_parameters(theta), engine=engine).updates.items():
            assert np.abs(start[name] - array).max() <= (0 if engine == "actors" else 1e-12)
        assert not np.array_equal(start["h1.weight"], away["h1.weight"])


def test_sign_feedback_has_the_signs_and_the_size_of_the_weights():
    weight = np.array([[[1.0, -3.0], [2.0, -2.0]]])
    found = FEEDBACKS["sign"].operands(np, {"weight": weight, "bias": np.array([[5.0]])})
    assert np.array_equal(found["weight"], [[[2, -2], [2, -2]]])
    assert found["bias"] == 5


def test_random_feedback_never_changes_and_learned_feedback_takes_the_steps_of_the_weights():
    for feedback, changes in (("random", False), ("learned", True)):
        document = scenario(feedback, optimiser={"name": "sgd", "rate": 0.1, "weight_decay": 0.05})
        began, done = pcsim.load(document), pcsim.train(document)
        before, after = began.buffers()["y.feedback_weight"], done.buffers["y.feedback_weight"]
        assert np.array_equal(before, after) != changes
        if changes:  # the difference from the forward weights only shrinks, by rate times decay at each step
            gap = began.parameters()["y.weight"] - before
            left = done.parameters["y.weight"] - after
            np.testing.assert_allclose(left, gap * (1 - 0.1 * 0.05) ** 32, rtol=1e-9)


def test_the_log_has_the_angles():
    log = pcsim.train(scenario("learned", epochs=30)).log
    angles = log["feedback_angle"].sel(parameter="y.weight").values
    assert angles[0] > 30
    assert angles[-1] < 0.5 * angles[0]
    assert np.isnan(log["feedback_angle"].sel(parameter="h1.weight")).all()
    assert log["angle"].sel(parameter="y.weight").values == pytest.approx(0, abs=1e-3)
    assert "feedback_angle" not in pcsim.train(scenario(None)).log


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_learned_feedback_is_resumed_bit_for_bit(tmp_path, optimiser):
    document = scenario("learned", optimiser=optimiser, checkpoint=1)
    whole = pcsim.train(document)
    seen = []

    def stop(done):
        seen.append(done.step)
        if done.step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pcsim.train(document, out=tmp_path / "t", progress=stop)
    again = pcsim.train(document, out=tmp_path / "t", resume=tmp_path / "t")
    assert seen[-1] == 13
    for part in ("parameters", "buffers"):
        for name, array in getattr(whole, part).items():
            assert np.array_equal(getattr(again, part)[name], array), name
    assert np.array_equal(again.log["feedback_angle"], whole.log["feedback_angle"], equal_nan=True)


def test_what_cannot_be_is_refused_by_name():
    document = scenario("random")
    document["graph"]["vertices"]["h3"] = {"op": "tanh", "inputs": ["h2"], "feedback": "random"}
    with pytest.raises(InputError, match="'tanh' has no weights"):
        pcsim.load(document)
    document = scenario("learned")
    document["rule"] = "incremental"
    document["train"] = {"samples": 64}
    with pytest.raises(InputError, match="takes the steps of an optimiser"):
        pcsim.train(document)


def test_an_op_without_an_activation_has_no_slope_to_leave_out():
    vertices = {"x": {"op": "input", "shape": [2]}, "y": {"op": "tanh", "inputs": ["x"], "feedback": "straight"}}
    with pytest.raises(InputError, match="'tanh' has no activation whose slope"):
        pcsim.load_graph({"vertices": vertices, "outputs": ["y"]})


def test_angle():
    assert angle(np.array([1.0, 0]), np.array([0, 2.0])) == pytest.approx(90)
    assert np.isnan(angle(np.zeros(2), np.ones(2)))
