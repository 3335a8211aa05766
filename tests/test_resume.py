"""Runs that stop and go on: paused, interrupted, killed, resumed in memory, from a folder, in their own folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pcsim
from pcsim.errors import InputError, RunError
from pcsim.run.checkpoint import CHECKPOINT, load_checkpoint
from pcsim.run.result import MANIFEST

if TYPE_CHECKING:
    from pcsim.run.result import Run

ENGINES = [
    "actors",
    "numpy",
    pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="needs Numba")),
]
EVERYTHING = [{"what": ["value", "prediction", "error", "message", "norm", "divergence", "energy", "update"]}]


def scenario(rule: str = "il", **more: Any) -> dict[str, Any]:
    """Return a graph with a skip edge whose values and errors travel for different times, one tensor, one loss."""
    vertices = {
        "x": {"op": "input", "shape": [3]},
        "a": {"op": "affine", "units": 4, "activation": "tanh", "inputs": ["x"]},
        "b": {"op": "affine", "units": 4, "activation": "tanh", "inputs": [{"from": "a", "delay": 2}]},
        "c": {"op": "add", "inputs": ["b", {"from": "a", "delay": {"value": 3, "error": 1}}]},
        "y": {"op": "affine", "units": 2, "inputs": ["c"]},
    }
    ticks = {} if rule in ("zil", "fa-zil", "bp") else {"ticks": 11}
    return {
        "graph": {"vertices": vertices},
        "inputs": {"x": {"normal": [0, 1]}},
        "targets": {"y": [1.0, 0.0]},
        "batch": 2,
        "rule": {"name": rule, **ticks},
        "level": "delay" if rule in ("zil", "fa-zil") else "none",
        **more,
    }


def same(got: Run, wanted: Run) -> None:
    """Every recorded bit, every update, every measure."""
    assert got.summary == wanted.summary
    for node in wanted.trace.subtree:
        for name, array in node.data_vars.items():
            assert np.array_equal(got.trace[node.path][name].values, array.values, equal_nan=True), (node.path, name)
    for name, update in wanted.updates.items():
        assert np.array_equal(got.updates[name], update)
        assert np.array_equal(got.parameters[name], wanted.parameters[name])


@pytest.mark.parametrize(
    "more", [{}, {"record": EVERYTHING}, {"record": [], "measure": []}], ids=["usual", "all", "none"]
)
@pytest.mark.parametrize("rule", ["il", "fpa", "incremental", "zil", "fa-zil", "bp", "il-variance"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_was_paused_is_the_run_without_the_pause(engine, rule, more):
    made = pcsim.load(scenario(rule, **more))
    whole = pcsim.simulate(made, engine=engine)
    for ticks in {1, made.ticks // 2, made.ticks - 1} - {0}:
        paused = pcsim.simulate(made, engine=engine, until=ticks)
        assert paused.manifest["status"] == "paused"
        assert paused.summary["ticks"] == ticks
        same(pcsim.simulate(made, engine=engine, resume=paused), whole)


def test_a_run_may_pause_more_than_once_and_beyond_its_end():
    made = pcsim.load(scenario("fpa", record=EVERYTHING))
    first = pcsim.simulate(made, until=3)
    second = pcsim.simulate(made, resume=first, until=7)
    assert second.series("error", "a").sizes["tick"] == 7
    same(pcsim.simulate(made, resume=second, until=99), pcsim.simulate(made))


def test_what_is_solved_pauses_too():
    made = pcsim.load(scenario("fpa", solve="closed_form"))
    same(pcsim.simulate(made, resume=pcsim.simulate(made, until=4)), pcsim.simulate(made))


def test_a_pause_leaves_what_is_learnt_at_the_end_for_the_end():
    paused = pcsim.simulate(scenario("fpa"), until=5)
    assert all(not update.any() for update in paused.updates.values())


@pytest.mark.parametrize("record", [EVERYTHING, []], ids=["all", "none"])
def test_folders_go_on_in_another_or_in_themselves(tmp_path, record):
    made = pcsim.load(scenario("il", record=record))
    whole = pcsim.simulate(made)
    pcsim.simulate(made, until=4, out=tmp_path / "a")
    other = pcsim.simulate(made, resume=tmp_path / "a", out=tmp_path / "b")
    same(other, whole)
    same(pcsim.open_run(tmp_path / "b"), whole)
    assert pcsim.open_run(tmp_path / "a").manifest["status"] == "paused"
    own = pcsim.simulate(made, resume=tmp_path / "a", out=tmp_path / "a")
    same(own, whole)
    same(pcsim.open_run(tmp_path / "a"), whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_run_that_is_saved_can_go_on(tmp_path):
    made = pcsim.load(scenario())
    pcsim.simulate(made, until=4).save(tmp_path / "saved")
    same(pcsim.simulate(made, resume=tmp_path / "saved"), pcsim.simulate(made))


def test_an_interrupted_run_goes_on_from_before_its_last_tick():
    made = pcsim.load(scenario(record=EVERYTHING))

    def press(done: int, _horizon: int) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = pcsim.simulate(made, progress=press)
    assert stopped.manifest["status"] == "interrupted"
    same(pcsim.simulate(made, resume=stopped), pcsim.simulate(made))


def test_checkpoints_of_a_run_that_ends(tmp_path):
    made = pcsim.load(scenario(record=EVERYTHING))
    done = pcsim.simulate(made, out=tmp_path / "a", checkpoint=4)
    assert load_checkpoint(tmp_path / "a" / CHECKPOINT).state.tick == 8
    same(done, pcsim.simulate(made))
    same(pcsim.simulate(made, resume=tmp_path / "a"), done)


LONG = """
import pcsim, sys
pcsim.simulate(pcsim.load({document!r}), engine="numpy", out={folder!r}, checkpoint=1)
"""


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path):
    """Killed at any moment, also while a checkpoint is being written: the one before it opens."""
    document = scenario(record=[{"what": ["norm"], "every": 10}], measure=[])
    document["rule"] = {"name": "il", "ticks": 3000}
    whole = pcsim.simulate(pcsim.load(document))
    for number, wait in enumerate((0.1, 0.35, 0.8)):
        folder = tmp_path / str(number)
        process = subprocess.Popen([sys.executable, "-c", LONG.format(document=document, folder=str(folder))])
        while not (folder / CHECKPOINT).exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        tick = load_checkpoint(folder / CHECKPOINT).state.tick
        assert 0 < tick < 3000
        same(pcsim.simulate(pcsim.load(document), resume=folder), whole)


def test_half_a_checkpoint_is_never_in_place(tmp_path, monkeypatch):
    made = pcsim.load(scenario())
    folder = tmp_path / "a"
    pcsim.simulate(made, until=4, out=folder)
    before = (folder / CHECKPOINT).read_bytes()
    kept = load_checkpoint(folder / CHECKPOINT)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write the checkpoint .*: No space left on device"):
        kept.save(folder / CHECKPOINT)
    assert (folder / CHECKPOINT).read_bytes() == before
    assert not list(folder.glob("*.part"))


def test_what_cannot_go_on_says_why(tmp_path):
    made, other = pcsim.load(scenario()), pcsim.load(scenario(seed=3))
    paused = pcsim.simulate(made, until=4)
    changed = {name: 2 * values for name, values in pcsim.parameters(made).items()}
    with pytest.raises(InputError, match="resume: the run is of another scenario"):
        pcsim.simulate(other, resume=paused)
    with pytest.raises(InputError, match="resume: the run is of another scenario, or began with other parameters"):
        pcsim.simulate(made, parameters=changed, resume=paused)
    with pytest.raises(InputError, match="resume: this run cannot go on: it is done, and it kept no checkpoint"):
        pcsim.simulate(made, resume=pcsim.simulate(made))
    with pytest.raises(InputError, match="until: the run goes on from tick 4; it cannot stop at 3"):
        pcsim.simulate(made, resume=paused, until=3)
    with pytest.raises(InputError, match="until: expected a whole number of ticks, at least 1, got 0"):
        pcsim.simulate(made, until=0)
    with pytest.raises(InputError, match="checkpoint: checkpoints are kept in the folder of a run"):
        pcsim.simulate(made, checkpoint=2)
    folder = pcsim.simulate(made, until=4, out=tmp_path / "a").store.parent
    for damage in (b"", b"no archive", (folder / CHECKPOINT).read_bytes()[:-100]):
        (folder / CHECKPOINT).write_bytes(damage)
        with pytest.raises(InputError, match=r"resume: .*checkpoint\.npz is no checkpoint, or a damaged one"):
            pcsim.simulate(made, resume=folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match="is not the folder of a run"):
        pcsim.simulate(made, resume=folder)


def test_parameters_that_are_given_go_on_with_the_run():
    made = pcsim.load(scenario("incremental"))
    weights = {name: 0.5 * values for name, values in pcsim.parameters(made).items()}
    whole = pcsim.simulate(made, parameters=weights)
    paused = pcsim.simulate(made, parameters=weights, until=6)
    same(pcsim.simulate(made, parameters=weights, resume=paused), whole)
    assert not np.array_equal(whole.parameters["a.weight"], weights["a.weight"])


def test_a_session_that_begins_again_leaves_the_run_before_as_it_was():
    """A scenario that is run again begins its session again; what was read late is that run's own."""
    made = pcsim.load(scenario("il", record=[], measure=[]))
    first = pcsim.simulate(made)
    fresh = pcsim.simulate(pcsim.load(scenario("il", record=[], measure=[])))
    second = pcsim.simulate(made, until=2)
    assert second.state.keys() == first.state.keys()
    for name, state in fresh.state.items():
        assert np.array_equal(first.state[name], state)
        assert not np.array_equal(second.state[name], state)
    for name, update in fresh.updates.items():
        assert np.array_equal(first.updates[name], update)


def test_a_run_killed_while_it_goes_on_in_its_folder_loses_nothing(tmp_path):
    """What it wrote beside its folder is taken up, at any step of the exchange of the two."""
    made = pcsim.load(scenario(record=EVERYTHING))
    whole, folder = pcsim.simulate(made), tmp_path / "a"
    beside, before = (tmp_path / f".a.{what}" for what in ("resuming", "before"))

    def begin() -> None:
        for path in (folder, beside, before):
            shutil.rmtree(path, ignore_errors=True)
        pcsim.simulate(made, until=4, out=folder)
        pcsim.simulate(made, resume=folder, until=8, out=beside)

    def go_on() -> None:
        seen: list[int] = []
        same(pcsim.simulate(made, resume=folder, out=folder, progress=lambda done, _: seen.append(done)), whole)
        assert seen[0] == 9
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    begin()  # killed on its way
    assert pcsim.open_run(folder).summary["ticks"] == 4
    go_on()
    begin()  # killed when the folder had another name
    folder.rename(before)
    assert pcsim.open_run(folder).summary["ticks"] == 8
    go_on()
    begin()  # killed when the other had taken its place
    folder.rename(before)
    beside.rename(folder)
    go_on()


def test_a_run_that_fails_while_it_goes_on_leaves_its_folder_and_nothing_else(tmp_path, monkeypatch):
    made = pcsim.load(scenario(record=EVERYTHING))
    pcsim.simulate(made, until=4, out=tmp_path / "a")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pcsim.trace.columns.Column.write", full)
    with pytest.raises(RunError):
        pcsim.simulate(made, resume=tmp_path / "a", out=tmp_path / "a")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    same(pcsim.simulate(made, resume=tmp_path / "a"), pcsim.simulate(made))
