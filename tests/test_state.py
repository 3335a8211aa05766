"""A run between two ticks: taken out, saved, loaded elsewhere, it goes on as the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import opened
from strategies import BATCH_OPS, PER_TICK, SEPARATE, VALUE_RULES, Features, make_task, random_document, run_task
from test_engines import TOLERANCE, nudged, outcome, rounding, scaled_difference, tame

from pcsim.analysis.closed import closed_form
from pcsim.engines import ENGINES, open_engine
from pcsim.engines.ensembles import together
from pcsim.engines.state import ARRAYS
from pcsim.errors import InputError, RunError
from pcsim.graph.graph import number_format
from pcsim.rules import rule
from pcsim.run.checkpoint import Checkpoint, load_checkpoint

HERE = Path(__file__).parent


def task_of(row, seed, dtype="float64", form=None, *, apart=False, ticks=7):
    """Return a task on a random graph: delays, populations, shared parameters, dead ends, precisions, a start."""
    ops = SEPARATE if apart else (*SEPARATE, *("projection", *BATCH_OPS) * 3)
    features = Features(size=7, ops=ops, precision=seed % 2 == 1, dead_ends=seed % 5 == 0, delays=seed % 4 != 3)
    form = form or ("none", "delay", "identity")[seed % 3]
    step = rule("fpa", step_size=1.0) if row == "fpa at step size 1" else tame(row)
    document = random_document(seed, features)
    task = make_task(document, step, form, dtype, seed, 2 + seed % 2, ticks=ticks, away=0.01, losses="mixed",
                     keep_values=seed % 3 != 2)  # fmt: skip
    return begun_elsewhere(task, seed) if seed % 4 == 2 else task


def begun_elsewhere(task, seed):
    """Return the task from initial values near those of the sweep, where these are known to be in every domain."""
    if any(vertex.op.domain is not None for vertex in task.graph.vertices.values()):
        return task
    rng = np.random.default_rng(seed)
    free = [name for name in task.graph.active if task.graph.role(name) == "free"]
    values = {name: rng.normal(0, 0.3, (task.batch, *task.graph.vertices[name].shape)) for name in free}
    return replace(task, initial={name: value.astype(task.dtype) for name, value in values.items()})


# -- runs that are looked at ----------------------------------------------------------------------------


def readers_of(session, task):
    """Return {(quantity, name): function}, for all that can be read of a run."""
    graph, late = task.graph, task.keep_values
    edges = [edge for edge in graph.edges if graph.role(edge.pre) == "free"]
    sent = {"value message": [edge.name for edge in edges if late or not edge.value_delay],
            "error message": [edge.name for edge in edges]}  # fmt: skip
    return {(what, name): session.reader(what, [name]) for what in PER_TICK for name in sent.get(what, graph.active)}


def follow(session, task, first, end=None):
    """Play ticks one by one from ``first`` on, and return what could be read: one mapping for each tick."""
    reads, seen = readers_of(session, task), []
    for tick in range(first, task.ticks if end is None else end):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        here = {key: np.array(read()[0]) for key, read in reads.items()}
        session.learn(tick, last=tick == task.ticks - 1)
        for what in ("updates", "parameters"):
            here |= {(what, name): np.array(array) for name, array in getattr(session, what)().items()}
        session.move()
        seen.append((here, session.fired(), session.frozen()))
    return seen


def assert_same_bits(found, wanted):
    assert len(found) == len(wanted)
    for (ours, *our_facts), (theirs, *their_facts) in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        assert [key for key in theirs if ours[key].tobytes() != theirs[key].tobytes()] == []
        assert our_facts == their_facts


def through_a_file(state, tmp_path):
    Checkpoint(state, {}, "of this scenario").save(tmp_path / "state.npz")
    return load_checkpoint(tmp_path / "state.npz").state


def state_of(session):
    """Return the state of a session; skip the test where its engine says that it does not keep any."""
    try:
        return session.snapshot()
    except InputError as error:
        if "does not keep states yet" not in str(error):
            raise
        pytest.skip(str(error))


ROWS = [*VALUE_RULES, "fpa at step size 1"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ROWS)
def test_a_run_that_is_taken_up_is_the_same_run(engine, row, dtype, tmp_path):
    """Bit for bit: everything that can be read at each later tick, through a file, in a fresh session, at any tick."""
    for seed in range(6):
        task = task_of(row, seed, dtype)
        wanted = outcome(engine, task)
        if isinstance(wanted, RunError):
            continue
        whole = follow(engine(task), task, 0)
        at = int(np.random.default_rng(seed).integers(0, task.ticks + 1))
        session = engine(task)
        assert_same_bits(follow(session, task, 0, at), whole[:at])
        state = state_of(session)
        assert state.tick == at
        fresh = engine(task)
        fresh.load(through_a_file(state, tmp_path))
        assert_same_bits(follow(fresh, task, at), whole[at:])
        assert_same_bits(follow(session, task, at), whole[at:])  # to look at a run changes nothing
        ended = engine(task)
        ended.load(state)
        if at < task.ticks:
            ended.advance(at, task.ticks, last=True)
        last, fired, frozen = whole[-1]
        assert all(np.array_equal(array, last["updates", name]) for name, array in ended.updates().items())
        assert (ended.fired(), ended.frozen()) == (fired, frozen)


def nudged_floats(task, draw):
    """Return the task with its numbers moved by one unit in the last place; whole numbers stay."""
    whole = {name: array for name, array in task.inputs.items() if number_format(task.graph.vertices[name]) == "whole"}
    moved = nudged(task, draw)
    return replace(moved, inputs={**moved.inputs, **whole})


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "actors"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ROWS)
def test_a_state_goes_on_in_another_engine(row, dtype, name, tmp_path):
    """Decision 19: what follows is what ``actors`` shows from the start, as near as engines agree."""
    start, oracle = opened(name), open_engine("actors")
    for seed in range(3):
        task = task_of(row, seed, dtype)
        if isinstance(outcome(oracle, task), RunError):
            continue
        whole = follow(oracle(task), task, 0)
        at = int(np.random.default_rng(seed).integers(0, task.ticks))
        for one, other in ((start, oracle), (oracle, start)):
            session = one(task)
            follow(session, task, 0, at)
            fresh = other(task)
            fresh.load(through_a_file(state_of(session), tmp_path))
            found = follow(fresh, task, at)
            assert_near(found, whole, at, task, dtype)


def series(seen):
    return {key: np.stack([here[key] for here, *_ in seen]) for key in seen[0][0]}


def assert_near(found, whole, at, task, dtype):
    ours, theirs = series(found), series(whole)
    assert found[-1][1:] == whole[-1][1:]
    # a tick before the first, of the greatest so far, since differences are relative to that
    far = [key for key in theirs if not apart(ours[key], theirs[key], at) <= TOLERANCE[dtype]]
    if not far:
        return
    others = [series(follow(open_engine("actors")(nudged_floats(task, draw)), task, 0)) for draw in range(3)]
    run = run_task(open_engine("actors"), replace(task, keep_values=True))
    for key in far:
        known = max(scaled_difference(other[key], theirs[key]) for other in others)
        assert apart(ours[key], theirs[key], at) <= max(8 * known, rounding(run, task.graph, *key)), key


def apart(ours, theirs, at):
    """Return the greatest difference of later ticks, relative to the largest magnitude of the whole run so far."""
    return scaled_difference(np.concatenate([theirs[:at], ours]), theirs)


# -- on the way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["il", "fpa", "incremental", "fpa at step size 1"])
def test_a_state_of_many_ticks_in_one_call_is_that_of_the_ticks(engine, row):
    for seed in range(6):
        task = task_of(row, seed)
        if isinstance(outcome(engine, task), RunError):
            continue
        stepped, called = engine(task), engine(task)
        follow(stepped, task, 0, 4)
        called.advance(0, 4, last=False)
        follow_up = engine(task)
        follow_up.load(state_of(called))
        ours, theirs = series(follow(follow_up, task, 4)), series(follow(stepped, task, 4))
        # but for the sign of a zero: a message of nothing is not written down within a call
        assert [key for key in theirs if not np.array_equal(ours[key], theirs[key])] == []


def test_a_state_is_a_copy(engine):
    task = task_of("incremental", 1)
    session = engine(task)
    follow(session, task, 0, 3)
    state = state_of(session)
    kept = {key: {name: array.copy() for name, array in getattr(state, key).items()} for key in (*ARRAYS, "private")}
    again = state_of(session)
    follow(session, task, 3)
    session.restart()
    for key, arrays in kept.items():
        for name, array in arrays.items():
            assert np.array_equal(getattr(state, key)[name], array)
            getattr(state, key)[name][...] = 7.0  # nor does the session hear of what is done to it
    fresh = engine(task)
    fresh.load(again)
    wanted = follow(engine(task), task, 0)
    assert_same_bits(follow(fresh, task, 3), wanted[3:])
    for name, array in again.deviations.items():
        assert np.array_equal(array, kept["deviations"][name])


def test_a_session_that_was_loaded_begins_again_as_a_fresh_one(engine):
    for row in ("il", "incremental", "fpa at step size 1", "fa-zil"):
        task = task_of(row, 5)
        wanted = follow(engine(task), task, 0)
        session = engine(task)
        follow(session, task, 0, 3)
        state = state_of(session)
        session.restart()
        session.load(state)
        follow(session, task, 3)
        session.restart()
        assert_same_bits(follow(session, task, 0), wanted)


def test_a_state_keeps_its_batch(engine):
    """Draws are those of the batch that the state is from, whatever batch the session was at."""
    vertices = {
        "x": {"op": "input", "shape": [5]},
        "h": {"op": "affine", "units": 5, "inputs": ["x"]},
        "d": {"op": "dropout", "inputs": ["h"]},
        "y": {"op": "affine", "units": 2, "inputs": ["d"]},
    }
    task = make_task({"vertices": vertices}, rule("il", step_size=0.2), ticks=6)
    session = engine(task)
    session.restart(batch_number=4)
    follow(session, task, 0, 3)
    state = state_of(session)
    assert state.batch_number == 4
    other = engine(task)
    other.load(state)
    assert_same_bits(follow(other, task, 3), follow(session, task, 3))


# -- what is refused ------------------------------------------------------------------------------------


def chain(names="ab", units=3, delay=0):
    a, b = names
    vertices = {
        "x": {"op": "input", "shape": [2]},
        a: {"op": "affine", "units": units, "inputs": ["x"]},
        b: {"op": "affine", "units": 2, "inputs": [{"from": a, "delay": delay}]},
    }
    return {"vertices": vertices}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"document": chain("ac")}, "the state is of another graph: its deviations differ in b, c"),
        ({"document": chain(units=4)}, r"the state is of another run: deviations of 'a' are \[3, 3\], expected \[3, 4"),
        ({"document": chain(delay=2)}, "the state is of another graph: its errors differ in a->b"),
        ({"batch": 2}, r"the state is of another run: deviations of 'a' are \[3, 3\], expected \[2, 3\]"),
        ({"dtype": "float32"}, "the state is of another number format: deviations of 'a' are float64, not float32"),
        ({"ticks": 3}, "the state is that before tick 4, of a run of 3 ticks"),
    ],
)
def test_a_state_of_another_run_is_refused_by_name(engine, changed, message):
    plain = {"document": chain(), "row": "il", "batch": 3, "ticks": 6}
    session = engine(make_task(**plain))
    session.advance(0, 4, last=False)
    other = engine(make_task(**{**plain, **changed}))
    with pytest.raises(InputError, match=message):
        other.load(state_of(session))
    other.advance(0, 3, last=True)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        load_checkpoint(tmp_path / "none.npz")
    (tmp_path / "half.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="is no checkpoint, or a damaged one"):
        load_checkpoint(tmp_path / "half.npz")


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_or_changed_is_refused(cut, tmp_path):
    session = open_engine("numpy")(task_of("il", 1))
    session.advance(0, 3, last=False)
    path = tmp_path / "state.npz"
    Checkpoint(state_of(session)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(InputError, match="is no checkpoint, or a damaged one"):
        load_checkpoint(path)
    changed = bytearray(whole)
    changed[int(cut * len(whole))] ^= 0xFF
    path.write_bytes(bytes(changed))
    try:
        load_checkpoint(path)
    except InputError as error:
        assert "damaged" in str(error)  # noqa: PT017


# -- other sessions -------------------------------------------------------------------------------------


def test_a_run_of_updates_alone_is_taken_up(engine):
    """What was not followed to its end has no state, and says so; before that, it goes on as the exact run does."""
    for row in ("zil", "fa-zil"):
        task = task_of(row, 1, form="delay")
        spare = replace(task, exact_dynamics=False)
        session = engine(spare)
        follow(session, task, 0, 2)
        other = engine(spare)
        other.load(state_of(session))
        assert_same_bits(follow(other, task, 2), follow(engine(task), task, 0)[2:])
        ended = engine(spare)
        ended.advance(0, task.ticks, last=True)
        if ended.fired():
            try:
                state = state_of(ended)
            except InputError as error:
                assert "not followed to its end" in str(error)  # noqa: PT017
            else:
                assert state.tick == task.ticks


def test_a_run_of_updates_alone_in_which_nothing_learns_is_not_taken_for_its_beginning(engine):
    vertices = {
        "x": {"op": "input", "shape": [2]},
        "h": {"op": "tanh", "inputs": ["x"]},
        "y": {"op": "sin", "inputs": ["h"]},
    }
    task = replace(make_task({"vertices": vertices}, "zil", "delay"), exact_dynamics=False)
    session = engine(task)
    session.advance(0, task.ticks, last=True)
    try:
        assert state_of(session).tick == task.ticks
    except InputError as error:
        assert "not followed to its end" in str(error)  # noqa: PT017


@pytest.mark.parametrize("row", ["fpa", "bp", "fpa at step size 1"])
def test_the_closed_form_keeps_states_too(row, numpy_engine, tmp_path):
    """Its state goes on in a simulation, and that of a simulation in it."""
    solved = 0
    for seed in range(0, 20, 4):  # no precisions, no initial values: of these there is no closed form
        task = task_of(row, seed, apart=True)
        try:
            session = closed_form(task)
        except InputError:
            continue
        solved += 1
        whole = follow(closed_form(task), task, 0)
        follow(session, task, 0, 3)
        state = through_a_file(state_of(session), tmp_path)
        again = closed_form(task)
        again.load(state)
        assert_same_bits(follow(again, task, 3), whole[3:])
        simulated = numpy_engine(task)
        follow(simulated, task, 0, 3)
        for one, taken in ((numpy_engine(task), state), (closed_form(task), state_of(simulated))):
            one.load(taken)
            ours, theirs = series(follow(one, task, 3)), series(whole[3:])
            for key, array in theirs.items():
                assert scaled_difference(ours[key], array) <= 1e-11, key
    assert solved >= 3


@pytest.mark.parametrize("row", ["il", "incremental", "fpa"])
def test_each_of_runs_side_by_side_has_a_state_of_its_own(engine, row):
    """Of other seeds, so of other draws: what each goes on from alone."""
    for seed in (2, 4, 7):
        first = task_of(row, seed)
        if isinstance(outcome(engine, first), RunError):
            continue
        tasks = [first, replace(first, seed=seed + 50), replace(first, batch_number=3)]
        ensemble = together(tasks, engine)
        ensemble.members[0].advance(0, 4, last=False)
        for member, task in zip(ensemble.members, tasks, strict=True):
            state = state_of(member)
            assert (state.seed, state.batch_number, state.tick) == (task.seed, task.batch_number, 4)
            alone = engine(task)
            alone.load(state)
            ours, theirs = series(follow(alone, task, 4)), series(follow(engine(task), task, 0))
            for key in theirs:
                assert apart(ours[key], theirs[key], 4) <= 1e-10, key
            with pytest.raises(InputError, match="one clock"):
                member.load(state)


# -- another process ------------------------------------------------------------------------------------

GO_ON = """
import json, sys
sys.path.insert(0, {tests!r})
import test_state as here
for name, row, seed, dtype, at, path in json.loads(sys.argv[1]):
    task = here.task_of(row, seed, dtype)
    session = here.open_engine(name)(task)
    session.load(here.load_checkpoint(path).state)
    print(here.digest(here.follow(session, task, at)))
"""
ELSEWHERE = [("il", "float32"), ("incremental", "float64"), ("fa-zil", "float64")]


def digest(seen):
    """Return a number that changes with any bit of what was seen."""
    found = 0
    for here, fired, frozen in seen:
        for key in sorted(here):
            found = zlib.crc32(here[key].tobytes(), zlib.crc32("/".join(key).encode(), found))
        found = zlib.crc32(json.dumps([fired, frozen], sort_keys=True).encode(), found)
    return found


def test_a_run_goes_on_in_a_new_process(tmp_path):
    wanted, given = [], []
    for (row, dtype), name in product(ELSEWHERE, [name for name in ENGINES if name != "cupy"]):
        start, (seed, at) = opened(name), (1, 3)
        task, path = task_of(row, seed, dtype), tmp_path / f"{name}-{row}.npz"
        session = start(task)
        follow(session, task, 0, at)
        Checkpoint(state_of(session)).save(path)
        wanted.append(digest(follow(session, task, at)))
        given.append([name, row, seed, dtype, at, str(path)])
    found = subprocess.run(
        [sys.executable, "-c", GO_ON.format(tests=str(HERE)), json.dumps(given)],
        capture_output=True, text=True, check=False, env=os.environ, cwd=HERE.parent,
    )  # fmt: skip
    assert list(map(int, found.stdout.split())) == wanted, found.stderr[-2000:]
