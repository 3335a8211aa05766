"""Training: what is learnt is what the optimiser says, with a log, checkpoints and exact resume."""

from __future__ import annotations

import json
import re
import threading

import numpy as np
import pytest
import xarray as xr

import pcsim
from pcsim.engines import open_engine
from pcsim.engines.base import Descends
from pcsim.errors import InputError, RunError
from pcsim.graph.initialise import stream
from pcsim.learn.feed import Split
from pcsim.learn.parameter_steps import Descent
from pcsim.optimisers import OPTIMISERS
from pcsim.run.task import task_of
from pcsim.scenario.datasets.dataset import Field

GRAPH = {
    "vertices": {
        "x": {"op": "input", "shape": [6]},
        "h": {"op": "affine", "units": 5, "activation": "tanh", "inputs": ["x"]},
        "y": {"op": "affine", "units": 3, "inputs": ["h"]},
    },
    "outputs": ["y"],
}


def document(rule="bp", **train):
    return {"graph": GRAPH, "loss": "cross_entropy", "batch": 4, "rule": rule, "train": {"epochs": 2, **train}}


def samples(count=22, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 6))
    return {"inputs": {"x": x}, "targets": {"y": np.eye(3)[x[:, :3].argmax(1)]}}


def sessions(engine, dtype):
    scenario = pcsim.load({**document(), "dtype": dtype}).with_data(
        {"x": np.zeros((4, 6))}, {"y": np.eye(3)[[0, 1, 2, 0]]}
    )
    return open_engine(engine)(task_of(scenario, None))


def gradients(scenario, parameters, x, t):
    small = pcsim.load({**scenario, "batch": len(x)}, {"train": None})
    return pcsim.gradients(small.with_parameters(parameters).with_data({"x": x}, {"y": t}))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_is_that_of_torch(name):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    settings = {"rate": 0.05, "weight_decay": 0.01}
    row, rng = OPTIMISERS[name], np.random.default_rng(1)
    theta = rng.normal(size=(3, 4))
    other = torch.tensor(theta.copy(), requires_grad=True)
    kinds = {
        "sgd": (torch.optim.SGD, {}), "momentum": (torch.optim.SGD, {"momentum": 0.9}),
        "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}), "adam": (torch.optim.Adam, {}),
        "adamw": (torch.optim.AdamW, {}),
    }  # fmt: skip
    kind, more = kinds[name]
    theirs = kind([other], lr=0.05, weight_decay=0.01, **more)
    state, full = row.begin(theta), {key: each.default for key, each in row.settings.items()} | settings
    for number in range(1, 8):
        u = rng.normal(size=theta.shape)
        other.grad = torch.tensor(-u)
        theirs.step()
        row.step(theta, u, state, row.constants(0.05, 1.0, full, number))
    np.testing.assert_allclose(theta, other.detach().numpy(), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_compiled_steps_have_the_bits_of_numpy(name, dtype):
    pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    row, shapes = OPTIMISERS[name], {"b": (7,), "w": (101, 99)}
    settings = {key: each.default for key, each in row.settings.items()} | {"weight_decay": 0.1}
    both = []
    for engine in ("numba", "numpy"):
        session = sessions(engine, np.dtype(dtype).name)
        mover = session if isinstance(session, Descends) else None
        assert (mover is not None) == (engine == "numba")
        rng, descent = np.random.default_rng(1), Descent(row, settings, 0.5)
        theta = {key: rng.normal(size=shape).astype(dtype) for key, shape in shapes.items()}
        kept = {key: row.begin(array) for key, array in theta.items()}
        for number in range(1, 6):
            u = {key: rng.normal(size=shape).astype(dtype) for key, shape in shapes.items()}
            descent.step(mover, theta, u, kept, 0.05, 0.3, number)
        both.append(theta)
    assert all(np.array_equal(both[0][key], both[1][key]) for key in shapes)


@pytest.mark.parametrize("rule", ["bp", "zil"])
@pytest.mark.parametrize("engine", ["numpy", "numba", "actors"])
def test_training_is_gradient_descent_on_batches_in_the_order_of_the_seed(engine, rule):
    if engine == "numba":
        pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    scenario, data = document(rule, optimiser={"name": "momentum", "rate": 0.3}), samples()
    done = pcsim.train(scenario, engine=engine, **data)
    x, t = data["inputs"]["x"], data["targets"]["y"]
    theta = {name: np.array(array) for name, array in pcsim.load(scenario).parameters().items()}
    velocity = {name: np.zeros_like(array) for name, array in theta.items()}
    for epoch in range(2):
        order = stream(0, "order", str(epoch)).permutation(22)
        for first in range(0, 22, 4):  # the last batch of an epoch has two samples
            some = order[first : first + 4]
            for name, update in gradients(scenario, theta, x[some], t[some]).items():
                velocity[name] = 0.9 * velocity[name] + update / len(some)
            theta = {name: array + 0.3 * velocity[name] for name, array in theta.items()}
    for name, wanted in theta.items():
        np.testing.assert_allclose(done.parameters[name], wanted, rtol=1e-12, atol=1e-13)
    assert done.summary["steps"] == 12
    assert done.log["samples"].values.tolist() == [4, 4, 4, 4, 4, 2] * 2


def test_the_log_has_what_each_batch_and_epoch_was(tmp_path):
    data = samples(30)
    done = pcsim.train(document(validate={"samples": 6}, test={"samples": 4}), out=tmp_path / "a", **data)
    log = done.log
    assert done.summary["samples"] == 20
    assert log.sizes == {"step": 10, "epoch": 2}
    first = stream(0, "order", "0").permutation(20)[:4]
    scenario = pcsim.load(document())
    task = scenario.with_data({"x": data["inputs"]["x"][first]}, {"y": data["targets"]["y"][first]})
    assert log["loss"][0] == pytest.approx(pcsim.simulate(task, engine="numpy").summary["energy"]["first"] / 4)
    kept = samples(30)
    logits = forward(done.parameters, kept["inputs"]["x"][20:26])
    right = logits.argmax(1) == kept["targets"]["y"][20:26].argmax(1)
    assert log["epoch_validation_accuracy"].values[-1] == right.mean()
    logits = forward(done.parameters, kept["inputs"]["x"][26:])
    assert done.summary["test_accuracy"] == (logits.argmax(1) == kept["targets"]["y"][26:].argmax(1)).mean()
    assert (
        xr.open_zarr(tmp_path / "a" / "log.zarr", consolidated=False)["loss"].values.tolist()
        == log["loss"].values.tolist()
    )
    lines = (tmp_path / "a" / "steps.csv").read_text().splitlines()
    assert lines[0].split(",")[:2] == ["step", "loss"]
    assert len(lines) == 11


def forward(parameters, x):
    h = np.tanh(x @ parameters["h.weight"].T + parameters["h.bias"])
    return h @ parameters["y.weight"].T + parameters["y.bias"]


def test_comparison_with_backprop():
    done = pcsim.train(document({"name": "fpa", "step_size": 0.5, "ticks": 3}, compare={"every": 3}), **samples())
    log = done.log
    assert log["compared"].values.tolist() == [0, 3, 6, 9]
    assert log["share"].sel(parameter="y.weight").values == pytest.approx(1, abs=1e-15)
    assert log["share"].sel(parameter="h.weight").values == pytest.approx(0.75, abs=1e-12)  # of two trials one succeeds
    exact = pcsim.train(document("zil", compare={"every": 3}), **samples()).log
    assert float(exact["divergence"].max()) < 1e-14


@pytest.mark.parametrize("engine", ["numpy", "numba", "actors"])
@pytest.mark.parametrize("stop", [1, 4, 6, 9])
def test_training_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, engine, stop):
    if engine == "numba":
        pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    graph = {"vertices": {**GRAPH["vertices"], "n": {"op": "batch_norm", "inputs": ["h"]},
                          "d": {"op": "dropout", "inputs": ["n"]},
                          "y": {"op": "affine", "units": 3, "inputs": ["d"]}}, "outputs": ["y"]}  # fmt: skip
    scenario = {**document(optimiser="adam", validate={"samples": 2}), "graph": graph, "engine": engine}
    whole = pcsim.train(scenario, **samples())

    def ended(done):
        if done.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pcsim.train({**scenario, "train": {**scenario["train"], "checkpoint": 2}}, out=tmp_path / "a", progress=ended,
                    **samples())  # fmt: skip
    again = pcsim.train(
        {**scenario, "train": {**scenario["train"], "checkpoint": 2}}, resume=tmp_path / "a", **samples()
    )
    for name in whole.parameters:
        assert np.array_equal(whole.parameters[name], again.parameters[name])
    for name in whole.buffers:
        assert np.array_equal(whole.buffers[name], again.buffers[name])
    for name in ("loss", "epoch_validation_loss"):
        assert np.array_equal(whole.log[name], again.log[name])


def test_ctrl_c_ends_the_batch_in_progress_and_says_so(tmp_path):
    import signal

    def ended(done):
        if done.step == 3:
            signal.raise_signal(signal.SIGINT)

    done = pcsim.train(document(), out=tmp_path / "a", progress=ended, **samples())
    assert (done.manifest["status"], done.summary["steps"]) == ("interrupted", 3)
    again = pcsim.train(document(), resume=tmp_path / "a", out=tmp_path / "a", **samples())
    assert again.manifest["status"] == json.loads((tmp_path / "a" / "training.json").read_text())["status"] == "done"
    assert np.array_equal(again.parameters["h.weight"], pcsim.train(document(), **samples()).parameters["h.weight"])


def test_early_stop_clip_and_schedules():
    stop, optimiser = {"metric": "validation_loss", "patience": 2}, {"name": "sgd", "rate": 30.0}
    stopped = pcsim.train(document(epochs=50, validate={"samples": 4}, stop=stop, optimiser=optimiser), **samples())
    values = stopped.log["epoch_validation_loss"].values
    assert stopped.summary["epochs"] < 50
    assert values[:-2].min() == values.min()
    clipped = pcsim.train(document(clip=1e-3, steps=1, optimiser={"name": "sgd", "rate": 1.0}), **samples())
    begun = pcsim.load(document()).parameters()
    assert max(np.abs(clipped.parameters[name] - begun[name]).max() for name in begun) == pytest.approx(1e-3)
    rates = pcsim.train(document(schedule="cosine", warm_up=2), **samples()).log["rate"].values / 0.01
    assert rates[:3] == pytest.approx([0.5, 1 * (1 + np.cos(np.pi / 12)) / 2, (1 + np.cos(np.pi / 6)) / 2])
    steps = pcsim.train(document(schedule={"name": "step", "factor": 0.5}), **samples()).log["rate"].values
    assert steps.tolist() == [0.01] * 6 + [0.005] * 6


def test_training_that_stopped_early_stays_stopped_and_goes_on_by_its_own_engine(tmp_path):
    pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    stop, optimiser = {"metric": "loss", "reaches": 0.9}, {"name": "sgd", "rate": 1.0}
    scenario = document(epochs=50, stop=stop, optimiser=optimiser)
    done = pcsim.train(scenario, engine="numba", out=tmp_path / "a", **samples())
    again = pcsim.train(scenario, resume=tmp_path / "a", **samples())
    assert 0 < done.summary["steps"] == again.summary["steps"] < 300
    assert again.manifest["reason"] == done.manifest["reason"]
    assert again.manifest["engine"] == "numba"
    assert np.array_equal(done.parameters["h.weight"], again.parameters["h.weight"])


def test_a_rule_that_learns_within_the_run_moves_its_parameters_itself():
    rule = {"name": "incremental", "ticks": 5, "learning_rate": 0.01}
    done = pcsim.train(document(rule, steps=2, shuffle=False), **samples())
    run, data = None, samples()
    scenario = pcsim.load(document(rule))
    for number in range(2):
        some = slice(4 * number, 4 * number + 4)
        begun = scenario if run is None else scenario.with_parameters(run.parameters)
        run = pcsim.simulate(begun, inputs={"x": data["inputs"]["x"][some]}, targets={"y": data["targets"]["y"][some]})
    for name, wanted in run.parameters.items():
        assert np.array_equal(done.parameters[name], wanted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"optimiser": "adm"}}, "unknown optimiser 'adm'; did you mean 'adam'"),
        ({"train": {"optimiser": {"name": "sgd", "momentum": 0.9}}}, "optimiser 'sgd' has no 'momentum'"),
        ({"train": {"optimiser": {"name": "momentum", "momentum": 1.5}}}, "expected at least 0 and below 1"),
        ({"train": {"schedule": "cosin"}}, "did you mean 'cosine'"),
        ({"train": {"stop": {"metric": "loss"}}}, "exactly one of patience, reaches"),
        ({"train": {"stop": {"metric": "validation_loss", "patience": 2}}}, "validation_loss"),
        ({"train": {"samples": 30}}, "train takes samples 0 to 29, and there are 22"),
        ({"train": {"validate": {"samples": 22}}}, "none is left"),
        ({"train": {"samples": 3, "remainder": "drop"}}, "3 samples fill no batch of 4"),
        ({"train": None}, "does not say how it is trained"),
        ({"stop": "converged"}, "ends a single run"),
        ({"rule": "incremental", "train": {"optimiser": {"name": "sgd", "rate": 1}}}, "leave the optimiser out"),
        ({"rule": "incremental", "train": {"clip": 1}}, "leave the clip out"),
        ({"rule": "alm", "train": {"step_size": {}}}, "rule 'alm' needs none: its vertices keep multipliers"),
        ({"train": {"validate": {"samples": 8}, "test": {"start": 6, "samples": 3}}}, "6 samples before those"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name(changes, said):
    with pytest.raises(InputError, match=re.escape(said)):
        pcsim.train({**document(), **changes}, **samples())


def test_samples_without_a_start_lie_before_those_with_one_and_overlaps_are_told():
    train = {"validate": {"samples": 4}, "test": {"start": 16, "samples": 6}}
    apart = pcsim.train(document(**train), **samples())
    assert (apart.summary["samples"], apart.summary["warnings"]) == (12, [])
    train = {"samples": 20, "test": {"start": 16, "samples": 6}}
    told = pcsim.train(document(**train), **samples()).summary["warnings"]
    assert told == ["4 samples of test are also of train"]


def test_training_that_diverges_says_where_and_keeps_what_was_reached(tmp_path):
    with pytest.raises(RunError, match="step 1, epoch 0: vertex 'h' at tick 0: its error grew beyond float64"):
        pcsim.train({**document(optimiser={"name": "sgd", "rate": 1e300}), "loss": "squared_error"},
                    out=tmp_path / "a", **samples())  # fmt: skip
    found = pcsim.open_training(tmp_path / "a")
    assert found.manifest["status"] == "failed"
    assert len(found.state.log.steps) == 1


def test_a_damaged_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="not the folder of a training"):
        pcsim.open_training(tmp_path)
    pcsim.train(document(), out=tmp_path / "a", **samples())
    with pytest.raises(InputError, match="is not empty"):
        pcsim.train(document(), out=tmp_path / "a", **samples())
    with pytest.raises(InputError, match="of another scenario"):
        pcsim.train({**document(), "seed": 3}, resume=tmp_path / "a", **samples())
    whole = (tmp_path / "a" / "checkpoint.npz").read_bytes()
    (tmp_path / "a" / "checkpoint.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        pcsim.open_training(tmp_path / "a")


def test_the_next_batch_is_read_in_a_thread_while_one_ticks(monkeypatch):
    scenario = {
        "graph": {"vertices": {"x": {"op": "input", "shape": [8, 8]}, "f": {"op": "flatten", "inputs": ["x"]},
                               "y": {"op": "affine", "units": 10, "inputs": ["f"]}}, "outputs": ["y"]},
        "inputs": {"x": {"dataset": "digits", "scale": 0.5}}, "batch": 8, "rule": "bp",
        "targets": {"y": {"dataset": "digits", "field": "one_hot"}}, "train": {"samples": 60, "epochs": 2},
    }  # fmt: skip
    at_once, threads = pcsim.train(scenario), set()
    take = Split.batch

    def watched(split, order):
        threads.add(threading.current_thread() is threading.main_thread())
        return take(split, order)

    monkeypatch.setattr("pcsim.learn.feed.WHOLE_BYTES", 0)
    monkeypatch.setattr(Split, "batch", watched)
    done = pcsim.train(scenario)
    assert threads == {False}
    assert all(np.array_equal(done.parameters[name], array) for name, array in at_once.parameters.items())


def test_bytes_are_divided_with_the_bits_of_rounding_once():
    image, field = np.arange(256, dtype=np.uint8), Field((), lambda places: np.arange(256, dtype=np.uint8), divisor=255)
    for dtype in (np.float32, np.float64):
        assert field.take(range(256), dtype=dtype).tobytes() == (image / 255).astype(dtype).tobytes()


def test_a_training_that_cannot_follow_backprop_says_so():
    below = {name: GRAPH["vertices"][name] for name in ("x", "h")}
    k, z = {"op": "affine", "units": 5, "inputs": ["h"]}, {"op": "add", "inputs": ["h", "k"]}
    graph = {"vertices": {**below, "k": k, "z": z}, "outputs": ["z"]}
    optimiser = {"name": "sgd", "rate": 0.01}
    scenario = {"graph": graph, "batch": 4, "rule": "zil", "level": "none", "train": {"optimiser": optimiser}}
    rng = np.random.default_rng(0)
    data = {"inputs": {"x": rng.normal(size=(8, 6))}, "targets": {"z": rng.normal(size=(8, 5))}}
    assert any("not levelled: h->z" in text for text in pcsim.train(scenario, **data).summary["warnings"])
    optimiser["rate"] = 1e300
    with pytest.raises(RunError, match=r"step \d.*; not levelled: h->z shorter .* use level: delay"):
        pcsim.train(scenario, **data)
