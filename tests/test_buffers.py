"""Buffers that a scenario is given, as parameters are: frozen statistics, and runs that go on from them."""

from __future__ import annotations

import numpy as np
import pytest

import pcsim
from pcsim.analysis.backprop import sweep
from pcsim.errors import InputError
from pcsim.graph import level
from pcsim.graph.interop import from_networkx, to_networkx
from pcsim.models.builder import Builder
from pcsim.run.rerun import task_again

RNG = np.random.default_rng(5)
MEAN, VARIANCE = RNG.normal(size=4), RNG.uniform(0.5, 2.0, 4)
GIVEN = {"n.running_mean": MEAN, "n.running_variance": VARIANCE}


def scenario(statistics="frozen", **more):
    vertices = {
        "x": {"op": "input", "shape": [3]},
        "h": {"op": "affine", "units": 4, "inputs": ["x"]},
        "n": {"op": "batch_norm", "statistics": statistics, "inputs": ["h"]},
        "y": {"op": "affine", "units": 2, "inputs": ["n"]},
    }
    normal = {"normal": [0, 1]}
    return {"graph": {"vertices": vertices}, "inputs": {"x": normal}, "targets": {"y": normal}, "batch": 5,
            "rule": {"name": "il", "ticks": 8}, "record": [{"what": ["prediction", "error"]}], **more}  # fmt: skip


def test_frozen_statistics_that_are_given_are_pytorchs_eval_mode():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    run = pcsim.simulate(scenario(), parameters=GIVEN)
    start, inputs = run.parameters, pcsim.load(scenario()).inputs()["x"]
    norm = torch.nn.BatchNorm1d(4, dtype=torch.float64).eval()
    norm.running_mean, norm.running_var = torch.as_tensor(MEAN), torch.as_tensor(VARIANCE)
    h = inputs @ start["h.weight"].T + start["h.bias"]
    wanted = norm(torch.as_tensor(h)).detach().numpy()
    first = sweep(run.outcome.task)["n"].mu[0]
    np.testing.assert_allclose(first, wanted, rtol=1e-12)
    assert set(run.parameters) == {"h.weight", "h.bias", "n.weight", "n.bias", "y.weight", "y.bias"}
    assert {name: array.tolist() for name, array in run.buffers.items()} == {k: v.tolist() for k, v in GIVEN.items()}


@pytest.mark.parametrize("engine", ["actors", "numpy", "numba"])
def test_a_file_holds_buffers_as_well(tmp_path, engine):
    if engine == "numba":
        pytest.importorskip("numba", reason="the compiled engine needs Numba")
    wanted = pcsim.simulate(scenario(), parameters=GIVEN, engine="actors")
    np.savez(tmp_path / "given.npz", **GIVEN)
    found = pcsim.simulate(scenario(parameters={"file": str(tmp_path / "given.npz")}), engine=engine)
    for name, update in wanted.updates.items():
        np.testing.assert_allclose(found.updates[name], update, rtol=1e-10, atol=1e-13)
    plain = pcsim.simulate(scenario(), engine=engine)
    assert any(np.abs(plain.updates[name] - update).max() > 1e-3 for name, update in wanted.updates.items())
    assert found.manifest["parameters_digest"] == wanted.manifest["parameters_digest"]
    assert found.manifest["parameters_digest"] != plain.manifest["parameters_digest"]


def test_a_run_goes_on_from_the_buffers_of_another():
    first = pcsim.simulate(scenario("batch"))
    assert set(first.buffers) == set(GIVEN)
    second = pcsim.simulate(scenario("batch"), parameters={**first.parameters, **first.buffers})
    moved = first.buffers["n.running_mean"]
    np.testing.assert_allclose(second.buffers["n.running_mean"], 0.9 * moved + moved, rtol=1e-12)


def test_a_folder_keeps_what_a_run_was_given_and_left(tmp_path):
    run = pcsim.simulate(scenario("batch"), parameters=GIVEN, out=tmp_path / "run")
    kept = pcsim.open_run(tmp_path / "run")
    for name, array in GIVEN.items():
        assert kept.given_buffers[name].tolist() == array.tolist()
        assert kept.buffers[name].tolist() == run.buffers[name].tolist() != array.tolist()
    again = task_again(kept)
    assert {name: array.tolist() for name, array in again.buffers.items()} == {k: v.tolist() for k, v in GIVEN.items()}
    assert pcsim.simulate(scenario()).given_buffers == {}


def test_a_run_is_resumed_with_the_buffers_it_began_with(tmp_path):
    whole = pcsim.simulate(scenario(), parameters=GIVEN)
    pcsim.simulate(scenario(), parameters=GIVEN, out=tmp_path / "run", until=3)
    run = pcsim.simulate(scenario(), parameters=GIVEN, out=tmp_path / "run", resume=tmp_path / "run")
    for name, update in whole.updates.items():
        assert run.updates[name].tobytes() == update.tobytes()
    pcsim.simulate(scenario(), parameters=GIVEN, out=tmp_path / "other", until=3)
    with pytest.raises(InputError, match="began with other parameters"):
        pcsim.simulate(scenario(), out=tmp_path / "other", resume=tmp_path / "other")


def test_runs_side_by_side_keep_their_own_buffers():
    base = pcsim.load(scenario())
    scenarios = [base.with_parameters(GIVEN), base, base.with_parameters({"n.running_mean": MEAN + 1})]
    for run, each in zip(pcsim.simulate_many(scenarios), scenarios, strict=True):
        alone = pcsim.simulate(each)
        for name, update in alone.updates.items():
            np.testing.assert_allclose(run.updates[name], update, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("n.running_means", MEAN, "there is no parameter or buffer 'n.running_means'; did you mean 'n.running_mean'?"),
        ("n.running_mean", MEAN[:3], r"has shape \[3\], expected \[4\]"),
        ("n.running_mean", MEAN * np.nan, "not finite"),
    ],
)
def test_what_is_wrong_with_a_buffer_is_one_error(tmp_path, name, array, message):
    with pytest.raises(InputError, match=message) as caught:
        pcsim.simulate(scenario(), parameters={name: array})
    assert [problem.path for problem in caught.value.problems] == [("parameters", name)]
    np.savez(tmp_path / "given.npz", **{name: array})
    with pytest.raises(InputError, match=message) as caught:
        pcsim.simulate(scenario(parameters={"file": str(tmp_path / "given.npz")}))
    assert len(caught.value.problems) == 1


# -- in a graph's document ------------------------------------------------------------------------------


def started(**init):
    document = scenario()
    document["graph"]["vertices"]["n"]["init"] = init
    return document


def test_a_document_says_how_buffers_start(tmp_path):
    wanted = pcsim.simulate(scenario(), parameters=GIVEN)
    np.savez(tmp_path / "kept.npz", v=VARIANCE)
    kept = {"file": str(tmp_path / "kept.npz"), "key": "v"}
    run = pcsim.simulate(started(running_mean={"values": MEAN.tolist()}, running_variance=kept))
    for name, update in wanted.updates.items():
        assert run.updates[name].tobytes() == update.tobytes()
    other = pcsim.load(started(running_mean={"values": 5.0})).with_parameters({"n.running_mean": MEAN})
    assert other.buffers()["n.running_mean"].tolist() == MEAN.tolist()
    assert pcsim.load(started(running_mean={"values": 5.0})).buffers()["n.running_mean"].tolist() == [5.0] * 4


def test_a_graph_with_buffers_comes_back_equal_from_networkx():
    graph = pcsim.load(started(running_mean={"values": MEAN.tolist()})).graph
    assert list(graph.buffers) == ["n.running_mean"]
    for text in (False, True):
        assert from_networkx(to_networkx(graph, text=text)) == graph
    assert level(graph, "identity").buffers == graph.buffers


@pytest.mark.parametrize(
    ("init", "path", "message"),
    [
        ({"running_men": {"values": 1.0}}, "running_men", "did you mean 'running_mean'"),
        ({"running_mean": {"values": [1.0, 2.0]}}, "running_mean", r"has shape \[2\], expected one number or shape"),
        ({"running_mean": {"value": 1.0}}, "running_mean", "did you mean 'values'"),
    ],
)
def test_what_is_wrong_with_the_start_of_a_buffer_is_named(init, path, message):
    with pytest.raises(InputError, match=message) as caught:
        pcsim.load(started(**init))
    assert caught.value.problems[0].path[:5] == ("graph", "vertices", "n", "init", path)


def test_a_model_keeps_its_buffers(tmp_path):
    builder = Builder("normalised")
    x = builder.input("x", (4,))
    weights = {"weight": builder.parameter("w", np.ones(4)), "bias": builder.parameter("b", np.zeros(4))}
    buffers = {"running_mean": MEAN, "running_variance": VARIANCE}
    model = builder.model(
        {"y": builder.vertex("batch_norm", [x], {"statistics": "frozen"}, params=weights, buffers=buffers, name="n")}
    )
    model.save(tmp_path / "graph.yaml")
    for graph in (model, {"file": str(tmp_path / "graph.yaml")}):
        found = pcsim.load({"graph": graph, "rule": "il", "batch": 2}).buffers()
        np.testing.assert_array_equal(found["n.running_mean"], MEAN)
        np.testing.assert_array_equal(found["n.running_variance"], VARIANCE)
