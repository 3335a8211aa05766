"""What updates are made of: pre times post, checked by building them again; sums over sites beside each site alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from graph_documents import DIGITS, GRAPHS, drawn_scenario
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.ops import OPS

FEW = {"cnn": DIGITS}
SHARED_OPS = ("affine", "conv", "conv_transpose", "local_conv", "projection", "residual", "embedding", "weighted_sum")


def report(stem, rule="zil", **keys):
    return pcsim.plasticity(drawn_scenario(stem, FEW.get(stem, {}), rule=rule, **keys), engine="numpy")


@pytest.mark.parametrize("path", sorted(GRAPHS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_layer_of_the_shipped_graphs_is_classified_and_rebuilt(path):
    found = report(path.stem)
    graph = pcsim.load_graph(path, FEW.get(path.stem, {}))
    for row in found.parameters:
        users = {graph.vertices[name].op.name for name in graph.uses[row["parameter"]]}
        if users <= set(SHARED_OPS):
            assert row["plasticity"] != "not Hebbian", row
            assert row["difference"] <= 1e-12, row
        else:
            assert row["plasticity"] == "not Hebbian", row
    assert found.facts["parameters"]["not Hebbian"] < len(found.parameters) or path.stem in (
        "millidge-figure-2", "skip-connection")  # fmt: skip


@pytest.mark.parametrize("rule", [{"name": "il", "step_size": 0.2, "ticks": 15},
                                  {"name": "fpa", "step_size": 0.5, "ticks": 15},
                                  {"name": "incremental", "step_size": 0.05, "ticks": 6},
                                  {"name": "il-variance", "step_size": 0.2, "ticks": 9},
                                  {"name": "alm", "ticks": 9}], ids=lambda rule: rule["name"])  # fmt: skip
@pytest.mark.parametrize("stem", ["cnn", "lstm", "population"])
def test_factors_are_those_of_the_tick_of_learning(stem, rule):
    found = report(stem, rule)
    assert found.facts["largest_difference"] <= 1e-12
    assert any(row["difference"] is not None for row in found.parameters)


def test_errors_that_are_kept_learn_likewise():
    found = pcsim.plasticity(drawn_scenario("mlp", {}, rule={"name": "epc", "ticks": 4}, level="none"))
    assert found.facts["largest_difference"] <= 1e-12


def test_a_wrong_row_is_found_out(monkeypatch):
    row = OPS["affine"]
    assert row.factors is not None

    def forgets_the_slope(*arguments):
        return {slot: type(one)(one.equation, one.error, None, one.pre) for slot, one in
                row.factors(*arguments).items()}  # fmt: skip

    monkeypatch.setitem(OPS, "affine", replace(row, factors=forgets_the_slope))
    assert report("mlp").facts["largest_difference"] > 1e-3


def images(op, weight):
    vertices = {
        "x": {"op": "input", "shape": [2, 6, 6]},
        "c": {"op": op, "channels": 3, "kernel": [3, 3], "stride": 2, "padding": 1, "activation": "tanh",
              "inputs": ["x"]},
        "y": {"op": "affine", "units": 4, "inputs": ["f"]},
        "f": {"op": "flatten", "inputs": ["c"]},
    }  # fmt: skip
    bias = np.zeros(3 if op == "conv" else (3, 3, 3))
    return {"graph": {"vertices": vertices, "outputs": ["y"]}, "inputs": {"x": {"normal": [0, 1]}},
            "targets": {"y": {"normal": [0, 1]}}, "batch": 5, "rule": {"name": "il", "ticks": 8}}, {
                "c.weight": weight, "c.bias": bias}  # fmt: skip


def test_a_convolution_learns_the_sum_of_what_a_locally_connected_layer_learns():
    weight = np.random.default_rng(0).standard_normal((3, 2, 3, 3)) / 4
    spread = np.broadcast_to(weight[..., None, None], (3, 2, 3, 3, 3, 3))
    updates, rows = [], []
    for op, value in (("conv", weight), ("local_conv", spread)):
        document, given = images(op, value)
        scenario = pcsim.load(document).with_parameters(given)
        updates.append(pcsim.simulate(scenario, engine="numpy").updates["c.weight"])
        rows.append({row["parameter"]: row for row in pcsim.plasticity(scenario, engine="numpy").parameters})
    assert np.allclose(updates[1].sum(axis=(-2, -1)), updates[0], rtol=0, atol=1e-13)
    shared, local = (each["c.weight"] for each in rows)
    assert (shared["plasticity"], shared["sites"]) == ("shared", 9)
    assert (local["plasticity"], local["sites"]) == ("two-factor Hebbian", 1)
    assert shared["unshared_norm"] == pytest.approx(float(np.linalg.norm(updates[1])), rel=1e-12)
    assert shared["shared_norm"] == pytest.approx(float(np.linalg.norm(updates[0])), rel=1e-12)


def test_correlations_are_those_of_numpy():
    recorded = {"measure": [], "record": [{"what": ["value", "error"]}]}
    document = drawn_scenario("mlp", {"depth": 2}, rule={"name": "il", "ticks": 5}, **recorded)
    found, run = pcsim.plasticity(document, engine="numpy"), pcsim.simulate(document, engine="numpy")
    pre, post = (run.series(*key).values[3] for key in (("value", "h1"), ("error", "h2")))
    wanted = np.sqrt(np.mean(np.corrcoef(post.T, pre.T)[: post.shape[1], post.shape[1] :] ** 2))
    row = next(row for row in found.ticks if (row["parameter"], row["tick"]) == ("h2.weight", 3))
    assert row["with_error"] == pytest.approx(wanted, rel=1e-9)


def test_the_command_prints_tables_and_json():
    path = str(GRAPHS.parent / "scenarios" / "linear-chain.yaml")
    shown = CliRunner().invoke(app, ["plasticity", path, "--json"])
    assert shown.exit_code == 0, shown.output
    assert {row["plasticity"] for row in json.loads(shown.output)["parameters"]} <= {
        "two-factor Hebbian", "shared", "not Hebbian"}  # fmt: skip
    assert "two-factor Hebbian" in CliRunner().invoke(app, ["plasticity", path]).output
