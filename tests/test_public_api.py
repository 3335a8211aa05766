"""The Python contract of the package: every name, and the block that users copy, word for word."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pcsim

ROOT = Path(__file__).parents[1]
TWICE = {
    "graph": {
        "vertices": {
            "x": {"op": "input", "shape": [2]},
            "a": {"op": "affine", "units": 2, "activation": "tanh", "inputs": ["x"]},
            "b": {"op": "multiply", "inputs": ["a", "a"]},
            "y": {"op": "affine", "units": 1, "inputs": ["b"]},
        },
        "outputs": ["y"],
    },
    "inputs": {"x": [0.3, -0.7]},
    "targets": {"y": 0.5},
    "rule": {"name": "fpa", "step_size": 0.5, "ticks": 6},
    "record": [{"what": ["value", "prediction", "error", "message"]}],
}


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> pcsim.Scenario:
    monkeypatch.chdir(ROOT)
    return pcsim.load("scenarios/zil-equals-bp.yaml", {"graph.depth": 16, "batch": 4})


def test_every_public_name_is_there():
    assert len(set(pcsim.__all__)) == len(pcsim.__all__)
    assert all(hasattr(pcsim, name) for name in pcsim.__all__)


def test_the_block_of_the_formats_document(scenario, tmp_path):
    run = pcsim.simulate(scenario, engine="numpy")
    assert run.summary["levels"] == 17
    json.dumps(run.summary, allow_nan=False)
    errors = run.series("error", "h3")
    assert isinstance(errors, xr.DataArray)
    assert errors.dims == ("tick", "batch", "axis_0")
    assert errors.shape == (17, 4, 64)
    assert isinstance(run.trace, xr.DataTree)
    run.save(tmp_path / "out")
    again = pcsim.open_run(tmp_path / "out")
    assert again.summary == run.summary
    xr.testing.assert_identical(again.series("error", "h3"), errors)
    parameters, gradients = pcsim.parameters(scenario), pcsim.gradients(scenario)
    assert parameters.keys() == gradients.keys() == run.updates.keys() == again.updates.keys()
    for name, wanted in gradients.items():
        assert parameters[name].shape == wanted.shape
        assert np.array_equal(run.updates[name], again.updates[name])
        np.testing.assert_allclose(run.updates[name], wanted, rtol=0, atol=1e-13)


def test_a_graph_goes_to_networkx_and_comes_back(scenario):
    graph = scenario.graph
    other = pcsim.Graph.from_networkx(graph.to_networkx())
    assert list(other.vertices) == list(graph.vertices)
    assert [edge.name for edge in other.edges] == [edge.name for edge in graph.edges]
    assert other.outputs == graph.outputs


def test_level_takes_a_graph_and_a_form(scenario):
    assert pcsim.level(scenario.graph, "delay") is scenario.graph  # a chain is level as it is
    skip = pcsim.load_graph(ROOT / "graphs/skip-connection.yaml")
    assert len(pcsim.level(skip, "identity").vertices) == len(skip.vertices) + 2


@pytest.mark.parametrize("engine", ["actors", "numpy"])
def test_bp_learns_the_gradients_exactly(scenario, engine):
    run = pcsim.simulate(
        pcsim.load(ROOT / "scenarios/zil-equals-bp.yaml", {"rule": "bp", "batch": 3, "graph.depth": 3}), engine=engine
    )
    wanted = pcsim.gradients(pcsim.load(ROOT / "scenarios/zil-equals-bp.yaml", {"batch": 3, "graph.depth": 3}))
    for name, update in run.updates.items():
        if engine == "numpy":
            np.testing.assert_allclose(update, wanted[name], rtol=1e-13, atol=1e-15)
        else:
            assert np.array_equal(update, wanted[name])


@pytest.mark.parametrize("engine", ["actors", "numpy"])
def test_messages_by_edge_and_kind_also_of_parallel_edges(engine):
    run = pcsim.simulate(TWICE, engine=engine)
    a, error = run.series("value", "a"), run.series("error", "b")
    for edge in ("a->b", "a->b#1"):
        assert np.array_equal(run.series("message", edge, kind="value").values, a.values)
        # each factor of a product receives the error times the other factor, here tanh at tick 0
        wanted = run.series("prediction", "a").values * error.values
        np.testing.assert_allclose(run.series("message", edge, kind="error").values, wanted, rtol=1e-14)
    with pytest.raises(pcsim.InputError, match="did you mean 'a->b"):
        run.series("message", "a->b#2", kind="error")
    with pytest.raises(pcsim.InputError, match="'value' or 'error'"):
        run.series("message", "a->b")


def test_a_saved_trace_opens_with_xarray_alone(tmp_path):
    run = pcsim.simulate(TWICE)
    folder = run.save(tmp_path / "out")
    tree = xr.open_datatree(folder / "trace.zarr", engine="zarr")
    assert tree["value/2"]["value"].sel(vertex="a").shape == (6, 1, 2)
    # two shapes of vertices, however many vertices there are
    assert set(tree["value"].children) == {"1", "2"}


def test_a_run_prints_what_it_is():
    assert repr(pcsim.simulate(TWICE)) == "Run('', 6 ticks, done: all 6 ticks done)"


def test_a_folder_with_something_in_it_is_not_written(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    run = pcsim.simulate(TWICE)
    with pytest.raises(pcsim.InputError, match="is not empty"):
        run.save(tmp_path)
    with pytest.raises(pcsim.InputError, match="is a file"):
        run.save(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("text", [None, "{", "[]", '"run/1"', '{"pcsim": "run/2"}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(pcsim.InputError, match=r"not the folder of a run|expected 'run/1'"):
        pcsim.open_run(tmp_path)


def fresh(code: str) -> str:
    """Return what a new process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_not_used_is_not_imported():
    heavy = ["numpy", "scipy", "xarray", "zarr", "matplotlib", "networkx", "pydantic", "yaml", "asyncio"]
    shown = f"import sys; print([name for name in {heavy} if name in sys.modules])"
    assert fresh(f"import pcsim; {shown}") == "[]"
    asked = "from pcsim.cli import app; app(['--help'], standalone_mode=False)"
    assert fresh(f"{asked}; {shown}").splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["simulate", "sweep"])
@pytest.mark.parametrize("first", ["import pcsim", "import pcsim.simulate, pcsim.sweep", "from pcsim import sweep"])
def test_functions_with_the_name_of_their_module_stay_functions(name, first):
    assert fresh(f"{first}; import pcsim; print(type(pcsim.{name}).__name__)") == "function"
    assert fresh(f"{first}; import pcsim; pcsim.{name}; import pcsim.{name}; print(callable(pcsim.{name}))") == "True"


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert set(pcsim.__all__) <= set(dir(pcsim))
    with pytest.raises(AttributeError, match="no attribute 'simulatte'"):
        pcsim.simulatte  # noqa: B018
