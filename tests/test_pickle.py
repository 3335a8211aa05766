"""Scenarios, graphs, runs and sweeps go to other processes and come back as they were."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import pcsim
from pcsim.ops import LOSSES, OPS
from pcsim.rules import FIRINGS, RULES

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "scenarios").glob("*.yaml"))
FIRST = ROOT / "scenarios/first-steps.yaml"
EVERYTHING = {"record": [{"what": ["value", "error", "message", "norm", "energy", "update"]}]}


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.fixture(params=[pickled, copy.deepcopy, copy.copy])
def way(request):
    return request.param


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_every_scenario_that_ships_comes_back_equal(file, monkeypatch):
    monkeypatch.setenv("PCSIM_DATA", "nowhere")
    scenario = pcsim.load(file)
    back = pickled(scenario)
    assert back == scenario
    assert back.graph == scenario.graph
    assert back.digest == scenario.digest
    assert copy.deepcopy(scenario) == scenario


def test_a_scenario_comes_back_without_sessions_and_gives_the_same_bits(way):
    scenario = pcsim.load(FIRST, EVERYTHING).with_parameters({"h1.weight": np.full((3, 2), 0.25)})
    run = pcsim.simulate(scenario)
    assert scenario.sessions
    back = way(scenario)
    assert back.sessions == {}
    assert set(vars(back)) == {row for row in vars(scenario) if row in type(scenario).__dataclass_fields__}
    again = pcsim.simulate(back)
    assert again.trace.identical(run.trace)
    assert again.summary == run.summary


def test_what_is_worked_out_of_a_graph_stays_behind():
    graph = pcsim.load(FIRST).graph
    before = len(pickle.dumps(graph))
    pcsim.level(graph, "delay")
    assert set(vars(graph)) > set(vars(pickled(graph)))
    assert len(pickle.dumps(graph)) == before


def same(got, run):
    assert got == run
    assert got.manifest == run.manifest
    assert got.trace.identical(run.trace)
    for part in ("updates", "parameters"):
        assert all(np.array_equal(getattr(got, part)[name], array) for name, array in getattr(run, part).items())


def test_a_run_in_memory_comes_back_with_all_it_had(way):
    scenario = pcsim.load(FIRST, EVERYTHING)
    whole, paused = pcsim.simulate(scenario), pcsim.simulate(scenario, until=6)
    back = way(whole)
    same(back, whole)
    assert all(np.array_equal(back.state[name], array) for name, array in whole.state.items())
    assert way(paused) != whole
    assert pcsim.simulate(scenario, resume=way(paused)).trace.identical(whole.trace)


def test_a_run_on_disk_goes_as_its_folder(tmp_path, way):
    run = pcsim.simulate(FIRST, {"rule.ticks": 500, **EVERYTHING}, out=tmp_path / "run")
    assert len(pickle.dumps(run)) < 10_000
    same(way(run), run)
    same(way(pcsim.open_run(tmp_path / "run")), run)


def test_a_sweep_comes_back_equal(way):
    found = pcsim.sweep(ROOT / "scenarios/skip-connection.yaml")
    assert way(found) == found


def test_rows_of_tables_are_pickled_by_name():
    for rows in (OPS, LOSSES, FIRINGS):
        assert all(pickled(row) is row and copy.deepcopy(row) is row for row in rows.values())
    assert all(pickled(row) == row for row in RULES.values())


def simulated(scenario):
    return pcsim.simulate(scenario)


def test_a_pool_of_processes_runs_scenarios_and_hands_runs_back():
    scenario = pcsim.load(FIRST, EVERYTHING)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        got = pool.submit(simulated, scenario).result()
    run = pcsim.simulate(scenario)
    assert got.trace.identical(run.trace)
    assert all(np.array_equal(got.updates[name], update) for name, update in run.updates.items())
