"""The synapses of a population as a table: in Python, at the command line, and beside what a run recorded."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import sparse
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.errors import InputError

GRAPH: dict[str, Any] = {
    "vertices": {
        "x": {"op": "input", "shape": [8]},
        "h": {"op": "identity", "inputs": ["x"]},
        "p": {
            "op": "projection", "units": 6, "inputs": [{"from": "h", "delay": {"value": 1, "error": 2}}], "bias": False,
            "connect": {"rule": "fixed_in_degree", "degree": 3},
            "delays": {"distance": {"speed": 0.2, "least": 1, "periodic": False}},
        },
        "y": {"op": "concat", "axis": 0, "inputs": ["p", "h"]},
    },
}  # fmt: skip
SCENARIO = {"graph": GRAPH, "inputs": {"x": 1.0}, "targets": {"y": 0.0}, "rule": {"name": "fpa", "ticks": 20}}


def test_a_row_has_the_neurons_the_delays_and_the_weight_of_a_synapse():
    scenario = pcsim.load(SCENARIO)
    table = pcsim.synapses(scenario, "p")
    call = scenario.graph.vertices["p"].call["synapses"]
    weights = scenario.parameters()["p.weight"]
    assert dict(table.sizes) == {"synapse": 18}
    for n, row in enumerate(table.to_dataframe().to_dict("records")):
        apart = abs((row["pre"] + 0.5) / 8 - (row["post"] + 0.5) / 6)
        assert row["distance"] == pytest.approx(apart, abs=1e-15)
        assert row["value_delay"] == 1 + 1 + round(apart / 0.2)
        assert row["error_delay"] == 2 + 1 + round(apart / 0.2)
        assert row["weight"] == weights[n]
        assert (row["pre"], row["post"]) == (call.pre[n], call.post[n])
        edge = scenario.graph.edge(table.attrs["edges"][row["slot"]])
        assert (edge.value_delay, edge.error_delay) == (row["value_delay"], row["error_delay"])
        assert (row["pre_x"], row["post_x"]) == ((row["pre"] + 0.5) / 8, (row["post"] + 0.5) / 6)


@pytest.mark.parametrize("form", ["delay", "identity"])
def test_delays_are_those_of_the_graph_that_is_run(form):
    graph = pcsim.load_graph(GRAPH)
    levelled = pcsim.level(graph, form)
    before, after = graph.synapses("p"), levelled.synapses("p")
    lines = {("p", slot): 0 for slot in range(len(before.attrs["edges"]))}
    for edge in levelled.edges:
        if edge.key in lines:
            lines[edge.key] += edge.error_delay
    assert after["error_delay"].values.tolist() == [lines["p", slot] for slot in after["slot"].values]
    assert np.array_equal(after["pre"], before["pre"])
    assert pcsim.synapses(SCENARIO, "p", {"level": form}).drop_vars("weight").equals(after)


def test_a_graph_alone_knows_the_weights_that_no_seed_decides(tmp_path):
    assert "weight" not in pcsim.load_graph(GRAPH).synapses("p")
    sparse.save_npz(tmp_path / "w.npz", sparse.random(6, 8, 0.4, random_state=1, format="csr"))
    entry = {**GRAPH["vertices"]["p"], "connect": {"rule": "from_file", "file": str(tmp_path / "w.npz")}, "delays": 2}
    graph = pcsim.load_graph({"vertices": {**GRAPH["vertices"], "p": entry}})
    table = graph.synapses("p")
    matrix = sparse.csr_matrix((table["weight"], (table["post"], table["pre"])), (6, 8))
    assert np.array_equal(matrix.toarray(), sparse.load_npz(tmp_path / "w.npz").toarray())
    assert "distance" not in table
    run = pcsim.simulate(SCENARIO)
    table = pcsim.load_graph(GRAPH).synapses("p", run.parameters)
    assert np.array_equal(table["weight"], run.parameters["p.weight"])


def test_populations_that_there_are_not_are_refused():
    graph = pcsim.load_graph(GRAPH)
    with pytest.raises(InputError, match="vertex: there is no vertex 'q'; known: p"):
        graph.synapses("q")
    with pytest.raises(
        InputError, match="vertex: 'h' has op 'identity', and only op 'projection' has synapses; known: p"
    ):
        graph.synapses("h")
    with pytest.raises(InputError, match=r"parameters: there is no parameter 'p\.weight'"):
        graph.synapses("p", {})
    with pytest.raises(InputError, match=r"parameters: 'p\.weight' has shape \[2\], expected \[18\]"):
        graph.synapses("p", {"p.weight": np.zeros(2)})


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_trace_tells_the_delay_of_each_synapse(tmp_path, engine):
    """In memory and on disk, beside what was learnt."""
    table = pcsim.synapses(SCENARIO, "p")
    record = {"record": [{"what": ["error"]}]}
    kept = pcsim.simulate(SCENARIO, record, engine=engine)
    pcsim.simulate(SCENARIO, record, engine=engine, out=tmp_path / "run")
    kept.save(tmp_path / "saved")
    for run in (kept, pcsim.open_run(tmp_path / "run"), pcsim.open_run(tmp_path / "saved")):
        beside = run.trace["synapses/p"].to_dataset()
        for name in ("pre", "post", "value_delay", "error_delay", "slot"):
            assert np.array_equal(beside[name], table[name])
        assert beside.sizes["synapse"] == len(run.updates["p.weight"])


@pytest.mark.parametrize(
    ("name", "node"), [("..", "%2E%2E"), ("zarr.json", "zarr%2Ejson"), ("a\\b", "a%5Cb"), ("é", "é")]
)
def test_a_population_may_have_any_name(tmp_path, name, node):
    population = {"op": "projection", "units": 3, "inputs": ["x"], "connect": {"rule": "all_to_all"}}
    graph = {"vertices": {"x": {"op": "input", "shape": [2]}, name: population}}
    scenario = {"graph": graph, "inputs": {"x": 1}, "targets": {name: 0}, "rule": {"name": "fpa", "ticks": 2}}
    pcsim.simulate(scenario, out=tmp_path / "run")
    for run in (pcsim.simulate(scenario), pcsim.open_run(tmp_path / "run")):
        assert run.trace[f"synapses/{node}"].sizes["synapse"] == 6


@pytest.fixture
def files(tmp_path):
    (tmp_path / "g.yaml").write_text(yaml.safe_dump({"pcsim": "graph/1", **GRAPH}))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"pcsim": "scenario/1", **SCENARIO}))
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command_writes_csv_or_json(files):
    table = pcsim.synapses(SCENARIO, "p")
    shown = invoke("synapses", files / "s.yaml", "--vertex", "p")
    assert shown.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(shown.output)))
    assert list(rows[0]) == list(table.data_vars)
    for name in table.data_vars:
        assert [float(row[name]) for row in rows] == table[name].values.tolist()
    found = json.loads(invoke("synapses", files / "s.yaml", "--json", "--set", "seed=3").output)
    assert found["population"] == "p"
    assert found["edges"] == table.attrs["edges"]
    assert found["synapses"] == len(found["columns"]["pre"]) == 18
    assert found["columns"]["weight"] == pcsim.synapses(SCENARIO, "p", {"seed": 3})["weight"].values.tolist()
    assert "weight" not in json.loads(invoke("synapses", files / "g.yaml", "--json").output)["columns"]


def test_the_command_refuses_what_has_no_synapses(files):
    refused = invoke("synapses", files / "s.yaml", "--vertex", "q")
    assert refused.exit_code == 2
    assert "there is no vertex 'q'; known: p" in refused.output
    assert invoke("synapses", files / "g.yaml", "--set", "seed=1").exit_code == 2
    (files / "none.yaml").write_text("pcsim: graph/1\nformula: sin(x)\n")
    refused = invoke("synapses", files / "none.yaml")
    assert refused.exit_code == 2
    assert "it has none" in refused.output


def test_the_keys_of_connections_and_delays_are_listed():
    rules = {row["rule"]: row["keys"] for row in json.loads(invoke("list", "connections", "--json").output)}
    keys = {rule: {row["key"] for row in rows} for rule, rows in rules.items()}
    assert "types" in keys["from_file"]
    assert "degree" in keys["fixed_in_degree"]
    delays = json.loads(invoke("list", "delays", "--json").output)
    assert {"speed", "least", "periodic"} <= {row["key"] for row in delays if row["of"] == "delays by distance"}


def test_what_a_file_holds_beyond_synapses_is_said(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "edges.h5", "w") as file:
        for name in ("source_node_id", "target_node_id", "0/plasticity"):
            file[f"edges/a/{name}"] = np.arange(4)
    entry = {"op": "projection", "units": 4, "inputs": ["x"], "connect": {"rule": "from_file", "file": "edges.h5"}}
    document = {"vertices": {"x": {"op": "input", "shape": [4]}, "p": entry}}
    (tmp_path / "g.yaml").write_text(yaml.safe_dump({"pcsim": "graph/1", **document}))
    note = "edges 'a' of edges.h5: not simulated, though it may change the result: plasticity"
    assert f"note: {note}" in " ".join(invoke("validate", tmp_path / "g.yaml").output.split())
    scenario = {"graph": {"file": "g.yaml"}, "inputs": {"x": 1}, "targets": {"p": 0}, "rule": "fpa"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(scenario))
    assert note in pcsim.simulate(tmp_path / "s.yaml", {"rule.ticks": 2}).summary["warnings"]
