"""The documents of ``graphs/`` on every engine and at any length."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import opened
from graph_documents import DIGITS, GRAPHS, SCENARIOS, drawn_scenario, norm

import pcsim
from pcsim.engines import ENGINES

FEW: dict[str, dict[str, Any]] = {
    "alexnet": {"width": 1, "units": 5}, "cnn": DIGITS, "gpt": {"tokens": 7, "vocabulary": 7}, "gru": {"T": 3},
    "lstm": {"T": 3}, "mlp": {"depth": 3}, "population": {"neurons": 20, "inputs": 12}, "rnn": {"T": 3},
    "resnet-18": {"size": 8, "width": 2}, "random-dag": {"vertices": 12},
}  # fmt: skip
"""Arguments that make few numbers of a document."""


@pytest.mark.parametrize("path", sorted(GRAPHS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("name", [name for name in ENGINES if name != "actors"])
def test_no_engine_refuses_a_document(path, name):
    opened(name)  # skips where it is not installed
    document = drawn_scenario(path.stem, FEW.get(path.stem, {}), measure=[], record=[])
    wanted = pcsim.simulate(document, engine="actors").updates
    found = pcsim.simulate(document, engine=name).updates
    scale = max(map(norm, wanted.values()))
    assert scale > 0
    for parameter, update in wanted.items():
        assert norm(found[parameter] - update) <= 1e-11 * scale, parameter


@pytest.mark.parametrize("stem", ["rnn-many-to-one", "lstm", "gru", "millidge-figure-9"])
@pytest.mark.parametrize("length", [1, 2, 5, 7, 50])
def test_any_length_runs(stem, length):
    overrides = {"graph.T": length, "graph.units": 4, "batch": 2, "sweep": {}, "rule.ticks": 4}
    overrides = overrides if stem == "millidge-figure-9" else {**overrides, "rule": "zil"}
    loaded = pcsim.load(SCENARIOS / f"{stem}.yaml", overrides)
    assert sum(name.startswith("x") for name in loaded.inputs()) == length
    assert pcsim.simulate(loaded).manifest["status"] == "done"
