"""Many batches, one scenario: data and parameters that a call is given, on a session that stands ready."""

from __future__ import annotations

import gc
import pickle
import weakref

import numpy as np
import pytest

import pcsim
from pcsim.errors import InputError

DOCUMENT = {
    "graph": {
        "vertices": {
            "x": {"op": "input", "shape": [3]},
            "z": {"op": "constant", "value": 0.5, "shape": [4]},
            "h": {"op": "affine", "units": 4, "activation": "tanh", "inputs": ["x"]},
            "k": {"op": "multiply", "inputs": ["h", "z"]},
            "y": {"op": "affine", "units": 2, "inputs": ["k"]},
        },
        "outputs": ["y"],
    },
    "inputs": {"x": {"normal": [0, 1]}}, "targets": {"y": {"uniform": [-0.5, 0.5]}}, "batch": 5, "rule": "zil",
}  # fmt: skip
SILENT = {"record": [], "measure": []}


def batch(seed):
    random = np.random.default_rng(seed)
    return {"inputs": {"x": random.normal(size=(5, 3))}, "targets": {"y": random.normal(size=(5, 2))}}


def written_out(given):
    """Return the document with data as its own."""
    lists = {key: {name: array.tolist() for name, array in arrays.items()} for key, arrays in given.items()}
    return {**DOCUMENT, **lists}


def same(found, wanted):
    return all(np.array_equal(found[name], array) for name, array in wanted.items())


@pytest.mark.parametrize("more", [{}, SILENT], ids=["recorded", "updates alone"])
@pytest.mark.parametrize("engine", ["numpy", "numba", "actors"])
def test_a_call_with_data_is_the_run_of_a_document_with_them(engine, more):
    if engine == "numba":
        pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    scenario = pcsim.load({**DOCUMENT, **more, "engine": engine})
    runs = [pcsim.simulate(scenario, **batch(seed)) for seed in range(3)]
    for seed, run in enumerate(runs):
        wanted = pcsim.simulate({**written_out(batch(seed)), **more}, engine=engine)
        assert same(run.updates, wanted.updates)
        assert run.manifest["data_digest"] == wanted.manifest["data_digest"]
        if not more:
            assert np.array_equal(run.series("divergence", "h"), wanted.series("divergence", "h"))
            assert run.summary["first_arrival"] == wanted.summary["first_arrival"]
    assert len({run.manifest["digest"] for run in runs}) == 3
    assert same(pcsim.simulate(scenario).updates, pcsim.simulate({**DOCUMENT, **more}, engine=engine).updates)


@pytest.mark.parametrize("more", [{}, SILENT], ids=["recorded", "updates alone"])
def test_learning_batch_by_batch_is_gradient_descent_on_one_session(more):
    scenario = pcsim.load({**DOCUMENT, **more})
    weights = {name: values.copy() for name, values in scenario.parameters().items()}
    kept, ensembles = [], []
    for seed in range(4):
        given = batch(seed)
        run = pcsim.simulate(scenario, parameters=weights, **given)
        wanted = pcsim.gradients(pcsim.load(written_out(given)).with_parameters(weights))
        for name, update in run.updates.items():
            np.testing.assert_allclose(update, wanted[name], rtol=1e-9, atol=1e-12)
            weights[name] += 0.1 * update
        kept.append(run)
        ensembles.append(next(iter(scenario.sessions.values())).ensemble)
    assert all(one is ensembles[0] for one in ensembles)
    assert all(same(run.parameters, {"h.bias": run.parameters["h.bias"]}) for run in kept)
    assert not same(kept[0].parameters, kept[1].parameters)
    assert not same(kept[0].updates, kept[1].updates)


def test_a_graph_needs_no_data_of_its_own_where_a_call_brings_them():
    bare = {key: part for key, part in DOCUMENT.items() if key not in ("inputs", "targets")}
    scenario, given = pcsim.load(bare), batch(1)
    assert same(pcsim.simulate(scenario, **given).updates, pcsim.simulate(written_out(given)).updates)
    with pytest.raises(InputError, match="input 'x' has no data"):
        pcsim.simulate(scenario, targets=given["targets"])


def test_data_that_do_not_fit_are_refused_at_once():
    scenario = pcsim.load({**DOCUMENT, "dtype": "float32"})
    wrong = {
        "inputs": {"h": np.zeros((5, 4)), "x": np.zeros((4, 3)), "z": np.full((5, 4), 1e300)},
        "targets": {"y": [["a"]]},
    }
    with pytest.raises(InputError) as caught:
        pcsim.simulate(scenario, **wrong)
    text = str(caught.value)
    for said in (
        "inputs.h: there is no input vertex 'h'", "inputs.x: has shape [4, 3], expected [5, 3]",
        "inputs.z: holds numbers that are not finite in float32", "targets.y: expected finite numbers",
    ):  # fmt: skip
        assert said in text
    with pytest.raises(TypeError, match="imputs"):
        pcsim.simulate(scenario, imputs={})
    with pytest.raises(InputError, match=r"inputs: expected \{vertex: array\}, got a list"):
        scenario.with_data([1, 2])
    with pytest.raises(InputError, match=r"targets\.q: 'q' is not an output"):
        scenario.with_data(targets={"q": np.zeros((5, 2))})


def test_a_scenario_with_data_is_one_like_any(tmp_path):
    scenario, given = pcsim.load(DOCUMENT), batch(2)
    other = scenario.with_data(**given)
    given["inputs"]["x"][...] = 7  # what was given is kept as it was
    assert same(other.inputs(), batch(2)["inputs"])
    assert other != scenario
    assert other == scenario.with_data(**batch(2))
    assert same(pickle.loads(pickle.dumps(other)).targets(), batch(2)["targets"])
    assert other.levelled is scenario.levelled
    run = pcsim.simulate(other, out=tmp_path / "run")
    assert run.ledger("h", 1).vertex == "h"
    with pytest.raises(InputError, match="the data that the run was given are kept nowhere"):
        pcsim.open_run(tmp_path / "run").ledger("h", 1)


@pytest.mark.parametrize("engine", ["numpy", "numba", "actors"])
def test_updates_stay_as_they_are_while_anything_holds_them(engine):
    if engine == "numba":
        pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    scenario = pcsim.load({**DOCUMENT, **SILENT, "engine": engine})
    first = pcsim.simulate(scenario, **batch(0)).updates
    rows = first["y.weight"][:1]
    kept = {name: array.copy() for name, array in first.items()}
    del first
    for seed in range(1, 5):
        last = pcsim.simulate(scenario, **batch(seed)).updates
    assert np.array_equal(rows, kept["y.weight"][:1])
    assert not np.shares_memory(rows, last["y.weight"])
    assert same(pcsim.simulate(scenario, **batch(0)).updates, kept)


def test_a_run_that_no_one_holds_is_gone_at_once_and_its_memory_is_used_again():
    pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    scenario = pcsim.load({**DOCUMENT, **SILENT, "engine": "numba"})
    places = set()
    gc.collect()
    gc.disable()
    try:
        for seed in range(20):
            run = pcsim.simulate(scenario, **batch(seed))
            places.add(run.updates["h.weight"].ctypes.data)
        gone = weakref.ref(run)
        del run
        assert gone() is None
    finally:
        gc.enable()
    assert len(places) <= 2
