"""Runs side by side: one clock, one program, and of each run what it would have been alone."""

from __future__ import annotations

import importlib
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from test_simulate import deep

import pcsim
from pcsim.engines import open_engine
from pcsim.engines.ensembles import agree, joined, together
from pcsim.run import grouping

simulating = importlib.import_module("pcsim.simulate")  # the name pcsim.simulate is the function
RULES = [
    {"name": "il", "step_size": 0.2, "ticks": 9},
    {"name": "fpa", "step_size": 0.3, "ticks": 9},
    {"name": "zil", "ticks": 9},
    {"name": "fa-zil", "ticks": 9},
    {"name": "incremental", "step_size": 0.2, "ticks": 9},
    {"name": "il-variance", "step_size": 0.2, "ticks": 9},
    {"name": "bp"},
]
RECORD = [{"what": ["value", "error", "energy", "norm", "divergence", "message", "update"]}]


def several(rule: dict[str, Any], **changes: Any) -> list[pcsim.Scenario]:
    """Three runs that differ in the seed, one in its data too, one in its step size."""
    plain = {**changes, "rule": rule}
    return [
        pcsim.load(deep(**plain)),
        pcsim.load(deep(**plain, seed=1, inputs={"x": {"normal": [1, 2]}}, targets={"y": [1.0, -1.0]})),
        pcsim.load(deep(**{**plain, "rule": {**rule, "step_size": 0.15}}, seed=2)),
    ]


def close(found: Any, wanted: Any, exact: bool) -> None:
    if exact:
        assert np.array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


def same_numbers(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            same_numbers(found[key], wanted[key])
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    else:
        assert found == wanted


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs ticked together, each time that some did."""
    sizes: list[int] = []
    start = simulating.together

    def counted(tasks: Any, engine: Any) -> Any:
        sizes.append(len(tasks))
        return start(tasks, engine)

    monkeypatch.setattr(simulating, "together", counted)
    return sizes


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
@pytest.mark.parametrize("engine", ["actors", "numpy"])
def test_each_run_is_what_it_would_be_alone(rule, engine, side_by_side):
    scenarios = several(rule, record=RECORD)
    runs = pcsim.simulate_many(scenarios, engine=engine)
    assert side_by_side == [3]
    for run, scenario in zip(runs, scenarios, strict=True):
        alone = pcsim.simulate(scenario, engine=engine)
        exact = engine == "actors"
        same_numbers(run.summary, alone.summary)
        assert run.manifest["digest"] == alone.manifest["digest"]
        for name, update in alone.updates.items():
            close(run.updates[name], update, exact)
        for name, value in alone.state.items():
            close(run.state[name], value, exact)
        for quantity, name in (("value", "h1"), ("error", "y"), ("norm", "mix"), ("update", "h2.weight")):
            close(run.series(quantity, name).values, alone.series(quantity, name).values, exact)
        for kind in ("value", "error"):
            got, wanted = (found.series("message", "h1->mix", kind=kind).values for found in (run, alone))
            close(got, wanted, exact)


@pytest.mark.parametrize("rule", ["il", "fpa", "incremental", "il-variance"])
@pytest.mark.parametrize("engine", ["actors", "numpy"])
def test_a_run_that_stops_keeps_its_result_while_others_go_on(rule, engine, side_by_side):
    stop = {"measure": "update", "below": {"il-variance": 2e-4, "incremental": 1e-2}.get(rule, 2e-3)}
    scenarios = several({"name": rule, "step_size": 0.3, "ticks": 400}, stop=stop, record=[{"what": "value"}])
    runs = pcsim.simulate_many(scenarios, engine=engine)
    assert side_by_side == [3]
    assert len({run.summary["ticks"] for run in runs}) > 1
    for run, scenario in zip(runs, scenarios, strict=True):
        alone = pcsim.simulate(scenario, engine=engine)
        same_numbers(run.summary, alone.summary)
        for name, update in alone.updates.items():
            close(run.updates[name], update, engine == "actors")
        for name, value in alone.state.items():
            close(run.state[name], value, engine == "actors")
        assert run.series("value", "h1").sizes["tick"] == alone.summary["ticks"]


def test_norms_and_updates_of_runs_in_which_nothing_else_is_read(side_by_side):
    scenarios = several({"name": "il", "step_size": 0.2, "ticks": 50}, record=[{"what": "norm"}], measure=[])
    for run, scenario in zip(pcsim.simulate_many(scenarios), scenarios, strict=True):
        alone = pcsim.simulate(scenario)
        close(run.trace["series"]["norm"].values, alone.trace["series"]["norm"].values, False)
        for name, update in alone.updates.items():
            close(run.updates[name], update, False)
    assert side_by_side == [3]


@pytest.mark.parametrize("engine", ["actors", "numpy"])
def test_a_run_that_fails_does_not_end_the_others(engine, side_by_side, tmp_path):
    rule = {"name": "il", "step_size": 0.2, "ticks": 4000}
    good = deep(rule=rule, record=[])
    scenarios = [pcsim.load(good), pcsim.load(good, {"rule.step_size": 9.0}), pcsim.load(good, {"seed": 3})]
    folders = [tmp_path / str(number) for number in range(3)]
    runs = pcsim.simulate_many(scenarios, engine=engine, out=folders)
    assert side_by_side == [3]
    assert [run.manifest["status"] for run in runs] == ["done", "failed", "done"]
    assert "grew beyond float64" in runs[1].summary["stop_reason"]
    for run, scenario, folder in zip(runs[::2], scenarios[::2], folders[::2], strict=True):
        alone = pcsim.simulate(scenario, engine=engine)
        assert all(np.array_equal(run.updates[name], update) for name, update in alone.updates.items())
        assert pcsim.open_run(folder).summary["ticks"] == 4000


def test_what_is_another_graph_rule_or_format_runs_by_itself(side_by_side):
    first = deep(record=[])
    others = [
        {"seed": 1},
        {"rule.name": "fpa"},
        {"rule.ticks": 5},
        {"dtype": "float32"},
        {"batch": 2},
        {"level": "delay"},
    ]
    scenarios = [pcsim.load(first), *(pcsim.load(first, other) for other in others)]
    runs = pcsim.simulate_many(scenarios)
    assert side_by_side == [2]
    assert [run.summary["ticks"] for run in runs] == [scenario.ticks for scenario in scenarios]
    tasks = [scenario.task() for scenario in scenarios]
    assert [agree([tasks[0], task]) for task in tasks] == [True, True, *[False] * 5]
    with pytest.raises(pcsim.InputError, match=r"tasks\[1\]: cannot run beside the first: it differs in dtype"):
        together([tasks[0], tasks[4]], open_engine("numpy"))


def test_runs_beyond_the_memory_for_them_are_groups(side_by_side, monkeypatch):
    scenarios = [pcsim.load(deep(record=[], seed=seed)) for seed in range(5)]
    monkeypatch.setattr(grouping, "MOST_TOGETHER", 2 * grouping.state_bytes(scenarios[0]))
    assert len(pcsim.simulate_many(scenarios)) == 5
    assert side_by_side == [2, 2]


def test_a_member_reads_and_advances_under_its_own_names():
    tasks = [scenario.task() for scenario in several({"name": "il", "step_size": 0.2, "ticks": 6})]
    start = open_engine("numpy")
    ensemble, single = together(tasks, start), start(tasks[1])
    assert joined("h1->h2#1", 4) == "h1->h2#1@4"
    view, norms = ensemble.members[1], [np.empty((3, len(tasks[1].graph.active))) for _ in range(2)]
    assert list(view.layout()) == list(single.layout())
    for session, found in ((view, norms[0]), (single, norms[1])):
        session.advance(0, 3, last=False, squares=found)
        session.predict(3)
        session.send(3)
        session.deliver(3)
    np.testing.assert_allclose(*norms, rtol=1e-12)
    for quantity in ("value", "prediction", "error"):
        got, wanted = (session.reader(quantity, ["h1", "h2"])() for session in (view, single))
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)
    for session in (view, single):
        session.learn(3, last=True)
        session.move()
    assert view.fired() == single.fired()
    assert view.frozen() == single.frozen() == {}
    assert view.parameters().keys() == single.parameters().keys() == tasks[1].parameters.keys()
    before = {name: update.copy() for name, update in single.updates().items()}
    for session in (view, single):
        session.restart(targets={"y": np.zeros((3, 2))})
        session.advance(0, 4, last=True)
    assert not all(np.array_equal(before[name], update) for name, update in single.updates().items())
    for name, update in single.updates().items():
        np.testing.assert_allclose(view.updates()[name], update, rtol=1e-12, atol=1e-14)


def test_one_folder_for_each_run():
    with pytest.raises(pcsim.InputError, match="one folder for each of 1 runs, got 0"):
        pcsim.simulate_many([deep()], out=[])


def test_folders_in_each_others_way_are_refused_before_anything_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("pcsim.simulate"), "run_ticks", lambda *_: pytest.fail("it was run"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    for out, said in (
        (["a", "a"], "written to one folder"),
        (["a", "b/../a"], "written to one folder"),
        (["a", "a/b"], "within the folder of another run"),
        (["a", "full"], "is not empty"),
    ):
        with pytest.raises(pcsim.InputError, match=said):
            pcsim.simulate_many([deep(), deep()], out=[tmp_path / name for name in out])
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
