"""Many ticks at once, again, and with less: ``advance``, ``restart``, step sizes of vertices, what need not be done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import opened
from hypothesis import given
from hypothesis import strategies as st
from strategies import VALUE_RULES, Features, documents, make_task, random_document, run_task

import pcsim
from pcsim.engines import ENGINES, best_engine, open_engine
from pcsim.engines.array.schedule import ChangesOnlySchedule, EveryRow, LightConeSchedule, changes, row_span
from pcsim.engines.array.session import ArraySession
from pcsim.engines.base import may_freeze
from pcsim.engines.updates_only import UpdatesOnlySession, updates_task
from pcsim.errors import InputError, RunError
from pcsim.graph import graph_from
from pcsim.rules import RULES, rule

SMALL_STEPS = {"il": 0.05, "fpa": 0.3, "incremental": 0.05, "il-variance": 0.05}
ROUNDING = {"float64": 1e-12, "float32": 5e-6}


def tame(name):
    return rule(name, **({"step_size": SMALL_STEPS[name]} if name in SMALL_STEPS else {}))


def ticked(session, ticks):
    """Play tick by tick on the protocol; return the error of every vertex at every tick, in the order of the layout."""
    readers = [session.reader("error", names) for names in session.layout()]
    seen = []
    for tick in range(ticks):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        seen.append([np.array(row) for read in readers for row in read()])
        session.learn(tick, last=tick == ticks - 1)
        session.move()
    return seen


def alike(got, wanted):
    return all(
        np.array_equal(a, b)
        for ours, theirs in zip(got, wanted, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


def ending(session):
    """Return everything that a session shows after a run."""
    values = [np.array(session.reader("value", names)()) for names in session.layout()]
    numbers = [*values, *map(np.array, session.updates().values()), *map(np.array, session.parameters().values())]
    return numbers, session.fired(), session.frozen()


def attempt(action):
    """Return what an action returns, or the words of the error that it ends with."""
    try:
        return action()
    except RunError as error:
        return str(error)


def same(got, wanted):
    if isinstance(wanted, str) or isinstance(got, str):
        return got == wanted
    return all(map(np.array_equal, got[0], wanted[0])) and got[1:] == wanted[1:]


def advanced(start, task, *cuts):
    session = start(task)
    for first, end in zip((0, *cuts), (*cuts, task.ticks), strict=True):
        session.advance(first, end, last=end == task.ticks)
    return ending(session)


def stepped(start, task):
    session = start(task)
    ticked(session, task.ticks)
    return ending(session)


# -- advance and restart ----------------------------------------------------------------------------------


@given(
    document=documents(max_size=7, delays=True, precision=True),
    row=st.sampled_from(list(VALUE_RULES)),
    form=st.sampled_from(["none", "delay", "identity"]),
    cut=st.integers(1, 7),
)
def test_many_ticks_in_one_call_are_tick_by_tick_bit_for_bit(engine, document, row, form, cut):
    task = make_task(document, tame(row), form, "float32", ticks=8, away=0.01, losses="mixed")
    wanted = attempt(lambda: stepped(engine, task))
    assert same(attempt(lambda: advanced(engine, task)), wanted)
    assert same(attempt(lambda: advanced(engine, task, cut)), wanted)


@pytest.mark.parametrize("row", ["bp", "zil", "fa-zil", "fpa"])
def test_a_weight_used_at_several_levels_sums_in_their_order(engine, row):
    """At once, in parts or tick by tick: the bits are those of one order."""
    layer = {"op": "affine", "units": 4, "activation": "tanh", "params": {"weight": "W"}}
    vertices = {"h0": {"op": "input", "shape": [4]}}
    vertices |= {f"h{level}": {**layer, "inputs": [f"h{level - 1}"]} for level in range(1, 8)}
    document = {"parameters": {"W": {"shape": [4, 4]}}, "vertices": vertices, "outputs": ["h7"]}
    for seed in range(8):
        task = make_task(document, row, "none", "float32", seed, batch=5, ticks=9, away=0.3)
        wanted = stepped(engine, task)
        assert same(advanced(engine, task), wanted)
        assert same(advanced(engine, task, 3), wanted)


@pytest.mark.parametrize("row", ["il", "fpa"])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_vertices_that_move_as_soon_as_they_may_change_no_bit(monkeypatch, row, threads):
    """Large vertices have instructions of their own, in another order; here small ones have them too."""
    instructions = pytest.importorskip("pcsim.engines.jit.instructions", reason="engine 'numba' needs Numba")
    monkeypatch.setenv("PCSIM_THREADS", threads)
    start, otherwise = open_engine("numba"), 0

    def run(task, heavy):
        monkeypatch.setattr(instructions, "HEAVY", heavy)
        session = start(task)
        norms = np.zeros((task.ticks, len(task.graph.active)))
        session.advance(0, task.ticks, last=True, squares=norms)
        return (*ending(session), norms.tolist(), getattr(session, "instructions", None))

    for seed in range(24):
        features = Features(size=10, delays=False, dead_ends=seed % 2 == 0)
        form = ("none", "identity")[seed % 2]
        document = random_document(seed, features)
        task = make_task(document, tame(row), form, "float32", seed, batch=7, ticks=9, away=0.01, losses="mixed")
        wanted = attempt(lambda task=task: run(task, 10**9))
        got = attempt(lambda task=task: run(task, 0))
        if isinstance(wanted, str):
            assert got == wanted
            continue
        assert same(got[:-1], wanted[:-1])
        otherwise += got[-1] is not None and got[-1].count() != wanted[-1].count()
    assert otherwise >= 10


def other(task, seed):
    """Return the task with other data and other parameters."""
    rng = np.random.default_rng(seed)

    def near(arrays):
        return {
            name: (array + 0.01 * rng.normal(size=array.shape)).astype(task.dtype) for name, array in arrays.items()
        }

    sources = {name: array for name, array in task.inputs.items() if task.graph.vertices[name].op.name == "input"}
    return {"inputs": near(sources), "targets": near(task.targets), "parameters": near(task.parameters)}


def exchanged(task, given):
    return replace(task, **{key: {**getattr(task, key), **arrays} for key, arrays in given.items()})


@given(
    document=documents(max_size=7, delays=True, precision=True),
    row=st.sampled_from(list(VALUE_RULES)),
    form=st.sampled_from(["none", "delay"]),
    losses=st.sampled_from(["mixed", "squared_error"]),
)
def test_a_restart_is_a_fresh_session(engine, document, row, form, losses):
    task = make_task(document, tame(row), form, "float32", ticks=6, away=0.01, losses=losses)
    given_now = other(task, 1)
    wanted = attempt(lambda: advanced(engine, exchanged(task, given_now)))
    session = attempt(lambda: engine(task))
    if isinstance(session, str):
        return
    attempt(lambda: session.advance(0, 4, last=False))

    def again(**changed):
        session.restart(**changed)
        session.advance(0, task.ticks, last=True)
        return ending(session)

    assert same(attempt(lambda: again(**given_now)), wanted)
    assert same(attempt(again), wanted)


def test_a_restart_moves_no_array(numpy_engine):
    """What a compiled engine holds on to stays where it is."""
    task = make_task(random_document(3, Features(size=12)), tame("il"), ticks=4, away=0.01)
    session = numpy_engine(task)
    session.advance(0, 4, last=True)

    def arrays():
        state = session.state
        tables = (state.theta, state.learnt, state.histories, state.lines, state.messages)
        units = [vars(units)[key] for units in state.units.values() for key in ("start", "deviation", "error", "shift")]
        slots = [array for params in state.params.values() for array in params.values()]
        return [*units, *slots, *(array for table in tables for array in table.values())]

    before = [array.__array_interface__["data"] for array in arrays()]
    session.restart(**other(task, 2))
    session.advance(0, 4, last=True)
    assert [array.__array_interface__["data"] for array in arrays()] == before


def test_data_that_does_not_fit_is_refused(engine):
    task = make_task(random_document(1), "fpa", ticks=2)
    session = engine(task)
    with pytest.raises(InputError, match=r"targets\.nobody: is not part of the task"):
        session.restart(targets={"nobody": np.zeros(3)})
    name = next(iter(task.inputs))
    with pytest.raises(InputError, match=rf"inputs\.{name}: has shape \[7\], expected"):
        session.restart(inputs={name: np.zeros(7)})


@pytest.mark.parametrize(
    ("number", "said"), [(np.nan, "data must be finite numbers"), (1e300, "not finite in float32"), ("a", "numbers")]
)
def test_numbers_that_are_none_are_refused_and_forgotten(engine, number, said):
    """A restart that was refused leaves the session to begin again from what it had."""
    task = make_task(random_document(1), "fpa", "none", "float32", ticks=2)
    session, fresh = engine(task), engine(task)
    fresh.advance(0, 2, last=True)
    name, wanted = next(iter(task.inputs)), fresh.updates()
    with pytest.raises(InputError, match=rf"inputs\.{name}: .*{said}"):
        session.restart(inputs={name: np.full(task.inputs[name].shape, number)})
    session.restart()
    session.advance(0, 2, last=True)
    assert all(np.array_equal(wanted[key], update) for key, update in session.updates().items())
    with pytest.raises(InputError, match=r"parameters: expected \{name: array\}, got a int"):
        session.restart(parameters=3)


# -- norms ----------------------------------------------------------------------------------------------


@given(
    document=documents(max_size=7, delays=True),
    row=st.sampled_from(list(VALUE_RULES)),
    form=st.sampled_from(["none", "delay"]),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_norms_are_those_of_the_errors_read_at_each_tick(engine, document, row, form, dtype):
    task = make_task(document, tame(row), form, dtype, ticks=7, away=0.01)
    seen = attempt(lambda: ticked(engine(task), task.ticks))
    if isinstance(seen, str):
        return
    wanted = np.array([[np.linalg.norm(error.astype(float).ravel()) for error in errors] for errors in seen])
    norms, session = np.full(wanted.shape, np.nan), engine(task)
    session.advance(0, 3, last=False, squares=norms[:3])
    session.advance(3, 7, last=True, squares=norms[3:])
    assert np.allclose(np.sqrt(norms), wanted, rtol=1e-13 if dtype == "float64" else 1e-6, atol=0)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norms_of_errors_whose_squares_leave_float32(engine, size):
    task = make_task({"vertices": {"x": {"op": "input", "shape": [3]}, "y": {"op": "identity", "inputs": ["x"]}}},
                     "fpa", dtype="float32", ticks=1, batch=1)  # fmt: skip
    task.inputs["x"][...], task.targets["y"][...] = 0, np.float32([3, 0, 4]) * np.float32(size)
    norms = np.zeros((1, 1))
    engine(task).advance(0, 1, last=True, squares=norms)
    assert np.sqrt(norms[0, 0]) == pytest.approx(5 * size, rel=1e-6, abs=0)


@pytest.mark.parametrize("parts", ["1", "2", "3"])
@pytest.mark.parametrize("size", [1e-42, 1e-25, 1e-14, 1, 1e18, 1e25, 1e36])
def test_norms_of_rows_that_move_whose_squares_leave_float32(monkeypatch, size, parts):
    """Vertices with one, two and more users, whose errors are tiny or huge from tick to tick; each part holds some."""
    monkeypatch.setenv("PCSIM_THREADS", parts)
    names = [f"h{number}" for number in range(6)]
    vertices = {name: {"op": "identity", "inputs": [pre]} for pre, name in zip(["x", *names], names, strict=False)}
    vertices |= {"a": {"op": "add", "inputs": ["h1", "h3"]}, "b": {"op": "subtract", "inputs": ["a", "h1"]}}
    document = {"vertices": {"x": {"op": "input", "shape": []}, **vertices, "y": {"op": "add", "inputs": ["b", "h5"]}}}
    task = make_task(document, rule("fpa", step_size=0.4, ticks=12), batch=6, dtype="float32")
    task.inputs["x"][...] = 0
    task.targets["y"][...] = size * np.arange(-2, 4, dtype=np.float32)
    reference, session = opened("numpy")(task), opened("numba")(task)
    assert session.layout() == reference.layout()
    wanted = np.array([[np.linalg.norm(row.astype(float)) for row in rows] for rows in ticked(reference, 12)])
    found = np.full(wanted.shape, np.nan)
    session.advance(0, 5, last=False, squares=found[:5])
    session.advance(5, 12, last=True, squares=found[5:])
    np.testing.assert_allclose(np.sqrt(found), wanted, rtol=1e-6, atol=2e-45)  # roundings of float32; its least number
    assert (wanted > 0).any(axis=0).all()


def test_norms_where_no_vertex_moves(engine):
    task = make_task(
        {"vertices": {"x": {"op": "input", "shape": [3]}, "y": {"op": "tanh", "inputs": ["x"]}}}, "fpa", ticks=5
    )
    norms = np.full((5, 1), np.nan)
    engine(task).advance(0, 5, last=True, squares=norms)
    assert norms == pytest.approx(np.full((5, 1), norms[0, 0]), rel=1e-15)
    assert norms[0, 0] > 0


def test_a_norm_of_nothing_has_no_sign(engine):
    chain = {f"h{n}": {"op": "tanh", "inputs": [f"h{n - 1}" if n else "x"]} for n in range(4)}
    task = make_task({"vertices": {"x": {"op": "input", "shape": []}, **chain}}, "fpa", ticks=3)
    norms = np.full((3, 4), np.nan)
    engine(task).advance(0, 3, last=True, squares=norms)
    assert (norms == 0).any()
    assert not np.signbit(norms).any()


# -- step sizes of vertices -----------------------------------------------------------------------------


def renamed(document, tag):
    """Return a document whose vertices and parameters have names of their own."""

    def pre(entry):
        return entry | {"from": entry["from"] + tag} if isinstance(entry, dict) else entry + tag

    vertices = {
        name + tag: entry
        | {"inputs": [pre(each) for each in entry.get("inputs", [])]}
        | {"params": {slot: parameter + tag for slot, parameter in entry.get("params", {}).items()}}
        for name, entry in document["vertices"].items()
    }
    parameters = {name + tag: entry for name, entry in document["parameters"].items()}
    return {"vertices": vertices, "parameters": parameters, "outputs": [name + tag for name in document["outputs"]]}


def side_by_side(a, b):
    return {
        "vertices": a["vertices"] | b["vertices"],
        "parameters": a["parameters"] | b["parameters"],
        "outputs": a["outputs"] + b["outputs"],
    }


def free(graph):
    return [name for name in graph.active if graph.role(name) == "free"]


@pytest.mark.parametrize("row", ["il", "fpa", "zil", "incremental"])
def test_step_sizes_of_vertices_are_those_of_separate_runs(engine, row):
    """Two graphs that do not touch, each with a step size of its own: as each alone, step size 1 bit for bit."""
    for seed in range(8):
        features = Features(size=6, delays=seed % 2 == 0, precision=seed % 3 == 0)
        parts = [renamed(random_document(seed + 20 * place, features), f"_{place}") for place in (0, 1)]
        rates = (1.0, 0.05)
        tasks = [
            make_task(part, rule(row, step_size=rate), ticks=5, seed=seed, away=0.01)
            for part, rate in zip(parts, rates, strict=True)
        ]
        alone = [attempt(lambda task=task: run_task(engine, task, ("error",))) for task in tasks]
        task = make_task(side_by_side(*parts), rule(row, step_size=rates[1]), ticks=5, seed=seed, away=0.01)
        own = {name: rates[0] for name in free(task.graph) if name.endswith("_0")}
        both = attempt(lambda task=task, own=own: run_task(engine, replace(task, step_sizes=own), ("error",)))
        if any(isinstance(run, str) for run in (both, *alone)):
            continue
        for run in alone:
            for name, error in run.errors.items():
                assert np.allclose(both.errors[name], error, rtol=1e-11, atol=1e-15)


def test_rows_of_step_size_one_move_what_arrived(engine):
    """A pure delay of one tick stays one beside leaky neighbours: the same bits as under one step size for all."""
    for seed in range(12):
        task = make_task(random_document(seed, Features(size=10)), rule("fpa", step_size=1.0), "delay", ticks=8)
        names = free(task.graph)
        levels = {name: task.graph.depths[name] for name in names}
        slow = {name: 0.25 for name in names if levels[name] == min(levels.values())}
        runs = [run_task(engine, replace(task, step_sizes=rates), ("error",)) for rates in ({}, slow)]
        for name in set(names) - set(slow):
            assert np.array_equal(runs[0].errors[name], runs[1].errors[name])


# -- what need not be worked out ------------------------------------------------------------------------


@pytest.mark.parametrize("row", [*VALUE_RULES, "fpa at step size 1"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_left_out_would_have_come_out_the_same(monkeypatch, row, dtype):
    """Every quantity at every tick, bit for bit, with all actors at work and with those that the schedule names."""
    chosen = rule("fpa", step_size=1.0) if row not in RULES else tame(row)
    for seed in range(40):
        features = Features(size=10, precision=seed % 3 == 1, dead_ends=seed % 5 == 0, delays=seed % 2 == 0)
        form = ("none", "delay", "identity")[seed % 3]
        task = make_task(random_document(seed, features), chosen, form, dtype, seed, ticks=9, away=0.01, losses="mixed")
        scheduled = attempt(lambda task=task: run_task(open_engine("numpy"), task))
        with monkeypatch.context() as patch:
            patch.setattr("pcsim.engines.array.session.schedule", lambda _task, program: EveryRow(program))
            wanted = attempt(lambda task=task: run_task(open_engine("numpy"), task))
        if isinstance(wanted, str) or isinstance(scheduled, str):
            assert scheduled == wanted
            continue
        for what, series in wanted.seen.items():
            assert all(np.array_equal(scheduled.seen[what][name], array) for name, array in series.items())
        for name, learnt in wanted.learnt.items():
            assert np.array_equal(scheduled.learnt[name], learnt)
        assert scheduled.fired == wanted.fired


def chain(depth, shape=3):
    vertices = {"h0": {"op": "input", "shape": [shape]}}
    for number in range(1, depth + 1):
        vertices[f"h{number}"] = {"op": "affine", "units": shape, "activation": "tanh", "inputs": [f"h{number - 1}"]}
    return {"vertices": vertices}


def worked_out(session, ticks):
    """Return how many rows of how many steps a session worked out in a run."""
    counts = []
    for tick in range(ticks):
        session.predict(tick)
        counts += [
            rows.stop - rows.start if isinstance(rows, slice) else len(rows) for _, rows in session.state.plan.active
        ]
        session.send(tick)
        session.deliver(tick)
        session.move()
    return sum(counts)


@pytest.mark.parametrize("row", ["bp", "fpa"])
def test_at_step_size_one_a_chain_costs_one_sweep(row):
    """Each error changes once: as many rows are worked out as there are vertices, however long the run."""
    for depth in (8, 64):
        task = make_task(chain(depth), rule(row, step_size=1.0), ticks=2 * depth)
        session = ArraySession(task, np)
        assert isinstance(session.schedule, ChangesOnlySchedule)
        assert worked_out(session, task.ticks) == depth


def test_rows_ahead_of_the_light_cone_are_not_worked_out():
    task = make_task(chain(20), rule("il", step_size=0.05), ticks=12)
    session = ArraySession(task, np)
    assert isinstance(session.schedule, LightConeSchedule)
    assert worked_out(session, task.ticks) == sum(range(1, 13))


def test_dense_changes_are_followed_by_the_light_cone():
    """A leaky vertex changes for ever, and everything before it."""
    graph_task = make_task(chain(9), rule("fpa", step_size=0.5), ticks=40)
    found, horizon = changes(graph_task, set(free(graph_task.graph)))
    assert found["h9"] == 1
    assert found["h8"] == (1 << horizon) - 2
    assert isinstance(ArraySession(graph_task, np).schedule, LightConeSchedule)


def test_a_span_of_rows_holds_every_row_that_was_reached():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 9, 20)
    for tick in range(10):
        reached, found = np.nonzero(first <= tick)[0], row_span(first).at(tick)
        assert found == (slice(reached[0], reached[-1] + 1) if len(reached) else None)


def test_a_frozen_output_that_follows_its_loss_shows_no_nan(engine):
    """What is read from a vertex whose numbers have ended is its feedforward value."""
    vertices = {
        "x": {"op": "input", "shape": [2]},
        "h": {"op": "affine", "units": 2, "inputs": ["x"]},
        "y": {"op": "exp", "inputs": ["h"]},
    }
    task = make_task({"vertices": vertices}, rule("zil", ticks=8), "delay", "float32", losses="mixed")
    task.targets["y"][...] = 1e4
    run = run_task(engine, task)
    assert task.losses["y"] == "cross_entropy"
    assert "y" in run.session.frozen()
    assert all(np.isfinite(array).all() for table in run.seen.values() for array in table.values())


# -- exact dynamics, or what updates need ------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "actors"])
@pytest.mark.parametrize("row", ["zil", "fa-zil"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_updates_alone_are_those_of_exact_dynamics(row, dtype, name):
    """Updates and fire ticks of the run that follows every actor, on levelled graphs with any delays and dead ends."""
    start = opened(name)
    less = 0
    for seed in range(40):
        features = Features(size=9, delays=seed % 2 == 0, dead_ends=seed % 3 == 0, precision=seed % 4 == 0)
        form = ("delay", "identity", "none")[seed % 3]
        task = make_task(random_document(seed, features), row, form, dtype, seed, away=0.1, losses="mixed")
        spare = replace(task, exact_dynamics=False)
        wanted, got = (
            attempt(lambda task=task: advanced(start, task)),
            attempt(lambda task=spare: advanced(start, task)),
        )
        if isinstance(wanted, str):
            assert isinstance(got, str)
            continue
        less += updates_task(spare) is not spare
        count = len(task.parameters)
        for ours, theirs in zip(got[0][-2 * count : -count], wanted[0][-2 * count : -count], strict=True):
            scale = np.abs(theirs).max(initial=0)
            assert np.abs(ours - theirs).max(initial=0) <= ROUNDING[dtype] * scale
        assert got[1] == wanted[1]
    assert less >= 20


def test_a_session_of_updates_alone_is_read_and_restarted_like_any():
    """Tick by tick every actor is simulated; as a whole it is not; both after a restart with other data as well."""
    task = make_task(chain(6), "zil", "delay", away=0.1)
    spare = open_engine("numpy")(replace(task, exact_dynamics=False))
    assert isinstance(spare, UpdatesOnlySession)
    exact = open_engine("numpy")(task)
    errors = [ticked(session, task.ticks) for session in (spare, exact)]
    assert alike(*errors)
    given_now = other(task, 5)
    for session in (spare, exact):
        session.restart(**given_now)
        session.advance(0, task.ticks, last=True)
    assert all(np.array_equal(spare.updates()[name], learnt) for name, learnt in exact.updates().items())
    spare.restart()
    exact.restart()
    assert alike(ticked(spare, 3), ticked(exact, 3))


def test_a_run_with_a_unit_that_is_dead_on_arrival_is_simulated_in_full():
    """[So]: an error of exactly zero on arrival fires later, when its inputs have moved."""
    document = {
        "vertices": {
            "x": {"op": "input", "shape": [1]},
            "k": {"op": "affine", "units": 1, "inputs": ["x"]},
            "a": {"op": "affine", "units": 1, "bias": False, "inputs": ["x"], "init": {"weight": {"constant": -1}}},
            "q": {"op": "relu", "inputs": ["a"]},
            "p": {"op": "multiply", "inputs": ["k", "q"]},
            "y": {"op": "affine", "units": 1, "inputs": ["p"]},
        }
    }
    task = make_task(document, rule("fa-zil", ticks=8), "delay", away=0.5)
    task.inputs["x"][...] = 1.0
    assert may_freeze(task)
    wanted, got = (advanced(open_engine("numpy"), replace(task, exact_dynamics=exact)) for exact in (True, False))
    assert wanted[1]["k"] > 2
    assert same(got, wanted)


def test_a_concatenation_of_scattered_vertices_runs():
    """Its inputs are rows that are not consecutive, so that slots hold arrays, which do not compare."""
    start = opened("numba")
    names = [f"h{number}" for number in range(6)]
    vertices = {"x": {"op": "input", "shape": [3]}}
    vertices |= {name: {"op": "affine", "units": 3, "inputs": ["x"]} for name in names}
    vertices |= {
        f"c{first}": {"op": "concat", "inputs": [names[first], names[(3 * first + 1) % 6]]} for first in range(4)
    }
    vertices["y"] = {"op": "add", "inputs": [f"c{first}" for first in range(4)]}
    task = make_task({"vertices": vertices, "outputs": ["y"]}, tame("il"), ticks=5, away=0.1)
    assert same(advanced(start, task), stepped(start, task))


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5", "100000"])
def test_a_number_of_threads_that_is_none_is_refused(said, monkeypatch):
    start = opened("numba")
    monkeypatch.setenv("PCSIM_THREADS", said)
    with pytest.raises(InputError, match="PCSIM_THREADS"):
        start(make_task(random_document(1), "fpa", ticks=2))


@pytest.mark.parametrize("said", ["", "3"])
def test_threads_share_samples_where_these_take_longer_than_passing_over_vertices(said, monkeypatch):
    start = opened("numba")
    monkeypatch.setenv("PCSIM_THREADS", said)
    monkeypatch.setattr("pcsim.engines.threads.cores", lambda: 4)
    scalars = {"x": {"op": "input", "shape": []}}
    scalars |= {f"h{n}": {"op": "tanh", "inputs": [f"h{n - 1}" if n else "x"]} for n in range(50)}
    layers = {"x": {"op": "input", "shape": [64]}}
    layers |= {f"h{n}": {"op": "affine", "units": 64, "inputs": [f"h{n - 1}" if n else "x"]} for n in range(4)}

    def threads(vertices, name, batch):
        task = make_task({"vertices": vertices}, rule(name, ticks=2), batch=batch)
        return start(replace(task, exact_dynamics=True)).threads

    few = [threads(scalars, "fpa", 16), threads(scalars, "il", 4), threads(layers, "fpa", 1)]
    assert few == ([3, 1, 1] if said else [1, 1, 1])
    one = {name: layers[name] for name in ("x", "h0")}  # nothing acts in a tick: what is shared is the sweep
    many = [
        threads(scalars, "fpa", 1024),
        threads(scalars, "il", 128),
        threads(layers, "fpa", 16),
        threads(one, "fpa", 16),
    ]
    assert many == [3 if said else 4] * 4


def test_auto_takes_compiled_kernels_for_long_runs_only():
    opened("numba")
    graph = make_task(random_document(1), "fpa", ticks=2).graph
    assert best_engine(graph, 1, 10) == "numpy"
    assert best_engine(graph, 1, 10**9) == "numba"


def test_auto_counts_a_weight_of_a_convolution_wherever_it_is_used():
    opened("numba")
    image = {"op": "input", "shape": [16, 32, 32]}
    layer = {"op": "conv", "channels": 16, "kernel": [3, 3], "padding": 1, "inputs": ["x"]}
    whole = graph_from({"vertices": {"x": image, "y": layer}})
    apart = graph_from({"vertices": {"x": {**image, "shape": [16, 3, 3]}, "y": {**layer, "padding": 0}}})
    assert (best_engine(apart, 64, 1000), best_engine(whole, 64, 1000)) == ("numpy", "numba")


@pytest.mark.parametrize("name", ["il", "fpa", "zil"])
@pytest.mark.parametrize("batch", [1, 5, 16, 64])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_bit_that_is_recorded_depends_on_threads(monkeypatch, name, batch, dtype):
    """Squares of errors are summed in blocks of samples, whatever the threads that share these."""
    opened("numba")
    monkeypatch.setattr("pcsim.engines.threads.cores", lambda: 16)
    vertices = {"x": {"op": "input", "shape": [24]},
                "h": {"op": "affine", "units": 37, "activation": "tanh", "inputs": ["x"]},
                "s": {"op": "sum", "inputs": ["h"]},
                "k": {"op": "affine", "units": 19, "inputs": ["h"]},
                "y": {"op": "affine", "units": 5, "inputs": ["k"]}}  # fmt: skip
    rule = {"name": name} if name == "zil" else {"name": name, "step_size": 0.1, "ticks": 30}
    document = {
        "graph": {"vertices": vertices, "outputs": ["y"]}, "inputs": {"x": {"normal": [0, 1]}},
        "targets": {"y": {"normal": [0, 1]}}, "rule": rule, "batch": batch, "dtype": dtype, "level": "delay",
    }  # fmt: skip
    if name == "il":  # whose measures would take the norms
        document |= {"record": [{"what": "norm"}], "measure": []}
    else:
        document |= {"record": [{"what": ["norm", "divergence"]}]}
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setenv("PCSIM_THREADS", str(threads))
        series = pcsim.simulate(document, engine="numba").trace["series"]
        found.append([series[what].values for what in ("norm", "divergence") if what in series])
    for other in found[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(found[0], other, strict=True))
