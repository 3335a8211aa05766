"""Whole numbers are taken in every form and refused in every other, wherever one is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.errors import InputError
from pcsim.trace.queries import ask

WHOLE = [3, 3.0, np.int64(3), np.uint8(3), np.float64(3.0), np.float32(3.0)]
NOT_WHOLE = [2.5, np.float64(2.5), True, np.bool_(True), float("nan"), float("inf")]


def scenario(vertices=None, **keys):
    """Return a scenario in which every whole number can be 3."""
    small = {
        "x": {"op": "input", "shape": [3]},
        "h": {"op": "affine", "units": 3, "inputs": [{"from": "x", "delay": 0}]},
        "y": {"op": "affine", "units": 3, "inputs": ["h"]},
    }
    graph = {"vertices": {**small, **(vertices or {})}, "outputs": ["y"]}
    data = {"inputs": {"x": [1.0, 2.0, 3.0]}, "targets": {"y": 1.0}, "rule": {"name": "il", "ticks": 4}}
    return {"pcsim": "scenario/1", "graph": graph, **data, **keys}


def population(connect, delays=0):
    return scenario({"h": {"op": "projection", "units": 4, "connect": connect, "delays": delays, "inputs": ["x"]}})


def template(argument):
    """Return a scenario whose graph is a template with an argument."""
    document = scenario({"y": {"op": "affine", "units": "$(n + 1)", "inputs": ["h"]}})
    document["graph"]["args"] = {"n": argument}
    return document


def linked(delay):
    """Return the graph of a networkx graph whose edges have a delay."""
    graph = loaded(scenario()).to_networkx()
    for row in graph.edges.values():
        row["value_delay"] = delay
    return pcsim.Graph.from_networkx(graph)


def loaded(document, overrides=None):
    return pcsim.load(document, overrides).graph


FIELDS = {
    "ticks": lambda n: loaded(scenario(rule={"name": "il", "ticks": n})),
    "batch": lambda n: loaded(scenario(batch=n)),
    "seed": lambda n: loaded(scenario(seed=n)),
    "every": lambda n: loaded(scenario(record=[{"what": "norm", "every": n}])),
    "start": lambda n: pcsim.load(scenario(inputs={"x": {"normal": [0, 1], "start": n}})).inputs(),
    "one_hot": lambda n: pcsim.load(scenario(targets={"y": {"file": LABELS, "one_hot": n}})).targets(),
    "units": lambda n: loaded(scenario({"h": {"op": "affine", "units": n, "inputs": ["x"]}})),
    "shape": lambda n: loaded(scenario({"x": {"op": "input", "shape": [n]}})),
    "delay": lambda n: loaded(scenario({"y": {"op": "affine", "units": 3, "inputs": [{"from": "h", "delay": n}]}})),
    "delay of errors": lambda n: loaded(
        scenario({"y": {"op": "affine", "units": 3, "inputs": [{"from": "h", "delay": {"error": n}}]}})
    ),
    "shape of an op": lambda n: loaded(scenario({"r": {"op": "reshape", "shape": [n, 1], "inputs": ["h"]}})),
    "connect": lambda n: loaded(population({"rule": "fixed_in_degree", "degree": n})),
    "delay of synapses": lambda n: loaded(population({"rule": "all_to_all"}, {"values": [n]})),
    "an interval of delays": lambda n: loaded(population({"rule": "all_to_all"}, {"uniform": [0, n]})),
    "an override": lambda n: loaded(scenario(), {"batch": n, "rule.ticks": n}),
    "seeds of a sweep": lambda n: pcsim.sweep(scenario(sweep={"seed": [0, n]})),
    "an argument": lambda n: loaded(template(n)),
    "an argument that is given": lambda n: loaded(template(1), {"graph.n": n}),
    "a list of a loop": lambda n: loaded(
        scenario({"v$l": {"for": {"l": [n]}, "op": "affine", "units": 3, "inputs": ["h"]}})
    ),
}

LABELS = mkdtemp() + "/labels.npy"
np.save(LABELS, [1])
RUN = pcsim.simulate(scenario())
SWEEP = pcsim.sweep(scenario(record=[{"what": "norm"}], sweep={"seed": [0, 1, 2, 3]}))

CALLS = {
    "rule": lambda n: pcsim.rules.rule("il", ticks=n),
    "a changed rule": lambda n: replace(pcsim.RULES["il"], ticks=n),
    "until": lambda n: pcsim.simulate(scenario(), until=n),
    "checkpoint": lambda n: pcsim.simulate(scenario(), out=mkdtemp() + "/run", checkpoint=n),
    "delay of a networkx edge": linked,
    "ask": lambda n: ask(RUN.trace, ticks=n),
    "row of a sweep": lambda n: SWEEP.run(n),
    "ledger": lambda n: RUN.ledger("h", n),
    "compare": lambda n: pcsim.compare(RUN, RUN, tick=n),
    "workers": lambda n: pcsim.sweep(scenario(sweep={"seed": [1]}), workers=n),
}


@pytest.mark.parametrize("value", WHOLE, ids=lambda value: f"{type(value).__name__} {value}")
@pytest.mark.parametrize("place", [*FIELDS, *CALLS])
def test_a_whole_number_is_taken_in_every_form(place, value):
    {**FIELDS, **CALLS}[place](value)


@pytest.mark.parametrize("value", [*NOT_WHOLE, "3"], ids=lambda value: f"{type(value).__name__} {value}")
@pytest.mark.parametrize("place", [*FIELDS, *CALLS])
def test_what_is_no_whole_number_is_refused(place, value):
    if value == "3" and place in ("compare", "ask", "a list of a loop"):  # texts are ranges and names there
        return
    with pytest.raises(InputError) as caught:
        {**FIELDS, **CALLS}[place](value)
    assert f"got {value!r}" in str(caught.value) or repr(getattr(value, "item", lambda: value)()) in str(caught.value)


ASKED = [
    ["run", "one.yaml", "--out", "new", "--until", "#"],
    ["run", "one.yaml", "--out", "new", "--checkpoint", "#"],
    ["run", "one.yaml", "--out", "new", "--set", "rule.ticks=#"],
    ["run", "one.yaml", "--out", "new", "--set", "batch=#"],
    ["sweep", "swept.yaml", "--out", "new", "--workers", "#"],
    ["trace", "done", "--tick", "#"],
    ["trace", "done", "--tick", "#:4", "--vertex", "h"],
    ["trace", "done", "--tick", "#", "--vertex", "h"],
    ["compare", "done", "done", "--tick", "#"],
]


@pytest.mark.parametrize("words", ASKED, ids=" ".join)
def test_the_command_line_takes_and_refuses_the_same(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text(yaml.safe_dump(scenario()), encoding="utf-8")
    Path("swept.yaml").write_text(yaml.safe_dump(scenario(sweep={"seed": [0]})), encoding="utf-8")
    pcsim.simulate(scenario(record=[{"what": "value"}]), out="done")
    for number, code in {"3": 0, "3.0": 0, "3e0": 0, "2.5": 2, "true": 2, "three": 2}.items():
        rmtree("new", ignore_errors=True)
        done = CliRunner().invoke(app, [word.replace("#", number) for word in words])
        assert done.exit_code == code, (number, done.output)
