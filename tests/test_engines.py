"""What every engine promises: to agree with the oracle, keep the light cone, and name what becomes NaN or infinite."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import opened
from hypothesis import given
from hypothesis import strategies as st
from strategies import PER_TICK, VALUE_RULES, Features, documents, make_task, permuted, random_document, run_task

from pcsim.analysis.backprop import backprop
from pcsim.engines import ENGINES, open_engine
from pcsim.errors import DomainError, InputError, NumberOverflowError, RunError
from pcsim.graph import light_cone, vertex_levels
from pcsim.program.lower import SHARED_BY
from pcsim.rules import rule

SMALL_STEPS = {"il": 0.05, "fpa": 0.3, "incremental": 0.05, "il-variance": 0.05}
"""Step sizes at which a short run stays close to where it began; the other rules have their own."""
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
"""Two orders of the same sums differ by a few units in the last place per tick. Over 8 ticks, errors of 0.01 and the
largest magnitude so far as the scale, the worst measured is about 1e-13 and 4e-6."""


def tame(name):
    return rule(name, **({"step_size": SMALL_STEPS[name]} if name in SMALL_STEPS else {}))


def outcome(engine, task):
    """Return a run, or the error that it ended with."""
    try:
        return run_task(engine, task)
    except RunError as error:
        return error


# -- every engine against the oracle --------------------------------------------------------------------


def scaled_difference(got, wanted):
    """Return the greatest difference at any tick, relative to the largest magnitude so far (at least 0.01)."""
    if not wanted.size:
        return 0.0
    flat = (len(wanted), -1)
    away = np.abs(got.astype(float) - wanted).reshape(flat).max(axis=1)
    return (away / np.maximum(np.maximum.accumulate(np.abs(wanted).reshape(flat).max(axis=1)), 1e-2)).max()


def series_of(run):
    """Return everything that a run was: {(quantity, name): (tick, ...)}."""
    tables = {**{what: run.seen[what] for what in PER_TICK}, "taught": run.taught, "parameters": run.parameters}
    return {(what, name): series for what, table in tables.items() for name, series in table.items()}


def far_apart(got, wanted, tolerance):
    """Return the series in which two runs differ by more than the tolerance: {(quantity, name): (ours, theirs)}."""
    ours, theirs = series_of(got), series_of(wanted)
    assert set(ours) == set(theirs)
    assert got.fired == wanted.fired
    pairs = {key: (ours[key], theirs[key]) for key in theirs}
    return {key: pair for key, pair in pairs.items() if not scaled_difference(*pair) <= tolerance}


def assert_equal_runs(got, wanted, tolerance):
    assert not far_apart(got, wanted, tolerance)


def rounding(run, graph, what, name):
    """Return what rounding leaves open of an error, and of what is sent of it, relative to its largest.

    An error is the difference of two values, each known to one unit in the last place. A message is the error times
    the derivatives of its vertex, which may be above 1; ``run`` is one of actors, which have them.
    """
    if what not in ("error", "error message"):
        return 0.0
    edge = None if what == "error" else graph.edge(name)
    vertex = name if edge is None else edge.post
    left = 2 * np.spacing(np.abs(run.seen["value"][vertex]).max())
    largest = np.abs(run.seen[what][name]).max()
    return (left if edge is None else sent_of(run.session.actors[vertex], edge, left)) / max(largest, 1e-2)


def sent_of(actor, edge, left):
    """Return the largest number that an actor sends over an edge where each of its errors is ``left``."""
    op, call, g = actor.vertex.op, actor.vertex.call, actor.precision * np.full_like(actor.error, left)
    params = actor.vertex.feedback.applied(np, op, call, actor.params)
    sent = op.to_inputs(np, call, params, actor.inputs, actor.mu, actor.saved, g)
    return float(np.abs(sent[edge.slot]).max())


def nudged(task, seed):
    """Return the task with each parameter, input and target moved up or down by one unit in the last place."""
    rng = np.random.default_rng(seed)

    def nudge(array):
        way = rng.integers(-1, 2, np.shape(array))
        up, down = (np.nextafter(array, task.dtype.type(end)) for end in (np.inf, -np.inf))
        return np.select([way > 0, way < 0], [up, down], array)

    return replace(
        task,
        **{
            key: {name: nudge(np.asarray(array, task.dtype)) for name, array in getattr(task, key).items()}
            for key in ("parameters", "inputs", "targets")
        },
    )


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "actors"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", list(VALUE_RULES))
def test_engines_agree_with_actors_tick_by_tick(row, dtype, name):
    """Errors, values, predictions, messages, updates, fire ticks; where one cannot go on, neither can the other.

    A graph may magnify rounding: an error of 0.01 beside a value of 5 is known to 5e-5 of itself in float32, and
    beside the pole of a tangent to less. Two runs that round in different places then agree no better than either
    agrees with itself when its data are rounded otherwise. So what differs by more than the tolerance must differ by at
    most 8 times what `actors` differs by when each number that it is given is moved by one unit in the last place, or
    by no more than one such unit of each of the two values that an error is the difference of.
    """
    for seed in range(36):
        document = random_document(seed, Features(size=8, precision=seed % 2 == 1, dead_ends=seed % 5 == 0))
        form = ("none", "delay", "identity")[seed % 3]
        task = make_task(document, tame(row), form, dtype, seed, 1 + seed % 3, ticks=8, away=0.01, losses="mixed")
        got, wanted = outcome(opened(name), task), outcome(open_engine("actors"), task)
        if isinstance(wanted, RunError):
            assert type(got) is type(wanted)
        elif far := far_apart(got, wanted, TOLERANCE[dtype]):
            others = [series_of(run_task(open_engine("actors"), nudged(task, draw))) for draw in range(3)]
            for key, (ours, theirs) in far.items():
                known = max(scaled_difference(other[key], theirs) for other in others)
                assert scaled_difference(ours, theirs) <= max(8 * known, rounding(wanted, task.graph, *key)), (
                    seed,
                    key,
                )


@given(document=documents(max_size=5, precision=True), row=st.sampled_from(list(VALUE_RULES)), ticks=st.integers(1, 6))
def test_engines_agree_from_any_start(engine, document, row, ticks):
    task = make_task(document, tame(row), ticks=ticks, away=0.01, batch=2)
    start = {
        n: np.full((2, *task.graph.vertices[n].shape), 0.3) for n in task.graph.active if task.graph.role(n) == "free"
    }
    bounded = all(vertex.op.domain is None for vertex in task.graph.vertices.values())
    task = replace(task, initial=start if bounded else {})
    got, wanted = outcome(engine, task), outcome(open_engine("actors"), task)
    if isinstance(wanted, RunError):
        assert type(got) is type(wanted)
    else:
        assert_equal_runs(got, wanted, 1e-11)


# -- bit for bit ----------------------------------------------------------------------------------------


def same_bits(got, wanted):
    series = [(got.seen[what], wanted.seen[what]) for what in got.seen]
    pairs = [*series, (got.learnt, wanted.learnt), (got.parameters, wanted.parameters)]
    return all(set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in b) for a, b in pairs)


@given(
    document=documents(max_size=7, precision=True), row=st.sampled_from(list(VALUE_RULES)), seed=st.integers(0, 1000)
)
def test_order_of_the_document_changes_no_bit(engine, document, row, seed):
    runs = [
        outcome(engine, make_task(doc, tame(row), "identity", "float32", ticks=5, away=0.01))
        for doc in (document, permuted(document, seed))
    ]
    assert str(runs[0]) == str(runs[1]) if isinstance(runs[0], RunError) else same_bits(*runs)


@given(document=documents(max_size=6), row=st.sampled_from(list(VALUE_RULES)))
def test_two_runs_of_one_task_are_equal(engine, document, row):
    task = make_task(document, tame(row), ticks=4, away=0.01)
    runs = [outcome(engine, task) for _ in range(2)]
    assert str(runs[0]) == str(runs[1]) if isinstance(runs[0], RunError) else same_bits(*runs)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_identity_and_delay_levelling_are_equal_at_every_tick_at_step_size_one(engine, dtype):
    """Section 5: under fpa with gamma = 1 an identity vertex is a pure delay of one tick: the same bits."""
    for seed in range(40):
        document = random_document(seed, Features(size=8, delays=seed % 2 == 0, dead_ends=True))
        runs = [
            run_task(
                engine, make_task(document, rule("fpa", step_size=1.0), form, dtype, seed, ticks=12), ("error",)
            ).errors
            for form in ("delay", "identity")
        ]
        assert all(np.array_equal(runs[1][name], error) for name, error in runs[0].items())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_identity_and_delay_levelling_are_equal_when_zil_fires(engine, dtype):
    """Section 5: at the tick of its level a vertex holds the same error in both forms: the same bits."""
    for seed in range(40):
        document = random_document(seed, Features(size=8, delays=seed % 2 == 0))
        tasks = [make_task(document, "zil", form, dtype, seed, away=1e-6) for form in ("delay", "identity")]
        runs = [outcome(engine, task) for task in tasks]
        if not any(isinstance(run, RunError) for run in runs):
            found = vertex_levels(tasks[0].graph)
            assert all(
                np.array_equal(runs[1].errors[name][found[name]], error[found[name]])
                for name, error in runs[0].errors.items()
            )


def test_leaky_identity_differs_from_delay_below_step_size_one(engine):
    """Section 5: with gamma < 1 an identity vertex is a leaky integrator, and the forms differ."""
    runs = [
        run_task(engine, make_task(SKIP, "fpa", form, ticks=12, away=1.0), ("error",)).errors["a"]
        for form in ("delay", "identity")
    ]
    assert np.abs(runs[0] - runs[1]).max() > 1e-3


# -- the light cone -------------------------------------------------------------------------------------


def early(run, cone):
    """Return the vertices whose error leaves zero before the light cone."""
    return [
        name for name, error in run.errors.items() if error[: len(error) if cone[name] is None else cone[name]].any()
    ]


def cone_of(task):
    return light_cone(task.graph, moving=task.rule.moving, learning=task.rule.fires.applies)


@pytest.mark.parametrize("row", list(VALUE_RULES))
def test_errors_are_exactly_zero_before_the_light_cone(engine, row):
    """[Z] theorem 1, for every rule and engine: exactly zero, not small."""
    for seed in range(40):
        document = random_document(seed, Features(size=8, precision=True, dead_ends=True))
        task = make_task(document, tame(row), dtype="float32", seed=seed, ticks=7, away=0.01, losses="mixed")
        run = outcome(engine, task)
        if not isinstance(run, RunError):
            assert early(run, cone_of(task)) == []


def test_a_shared_parameter_that_learns_at_every_tick_carries_the_error_ahead(engine):
    """h1 and h4 share a weight; it changes after tick 0, and the prediction of h1 with it, 3 edges from the output."""
    task = make_task(shared_chain(4), "incremental", ticks=3, away=1.0)
    run = run_task(engine, task, ("error",))
    assert light_cone(task.graph, moving=True)["h1"] == 3
    assert cone_of(task)["h1"] == 1
    assert run.errors["h1"][1].any()


# -- where values become NaN or infinite ---------------------------------------------------------------


def at_work(op, value, **attributes):
    """Return x -> h -> op -> y, and what op's input is at the start."""
    second = [] if op in ("sqrt", "log", "power") else ["one"]
    vertices = {
        "one": {"op": "constant", "value": 1.0},
        "x": {"op": "input", "shape": []},
        "h": {"op": "identity", "inputs": ["x"]},
        "bad": {"op": op, "inputs": [*second, "h"], **attributes},
        "y": {"op": "identity", "inputs": ["bad"]},
    }
    task = make_task({"vertices": vertices, "outputs": ["y"]}, rule("il", step_size=0.5), ticks=60, batch=2)
    task.inputs["x"][...] = 1.0
    task.inputs["x"][1] = value
    return task


CASES = [
    ("sqrt", -0.25, {}),
    ("log", 0.0, {}),
    ("log", -2.0, {}),
    ("divide", 0.0, {}),
    ("power", -1.5, {"exponent": 0.5}),
]


@pytest.mark.parametrize(("op", "value", "attributes"), CASES)
def test_leaving_the_domain_in_the_sweep_is_named(engine, op, value, attributes):
    with pytest.raises(
        DomainError, match=rf"vertex 'bad' in the feedforward sweep: .*: {value!r} \(from 'h', sample 1"
    ):
        engine(at_work(op, value, **attributes))


PULLS = [("sqrt", -3.0), ("log", -6.0)]


@pytest.mark.parametrize(("op", "target"), PULLS)
def test_leaving_the_domain_during_inference_is_named(engine, op, target):
    """A target that the op cannot reach pulls its input out of the domain; tick, vertex, value and sample are said."""
    task = at_work(op, 1.0)
    task.targets["y"][1] = target
    with pytest.raises(DomainError, match=r"vertex 'bad' at tick \d+: .*: -\d\.\d+ \(from 'h', sample 1"):
        run_task(engine, task)


def test_the_value_named_is_the_one_that_arrived(engine):
    """Over a value delay the op saw what was sent ticks ago: the error names that, and so is a domain error."""
    vertices = {
        "x": {"op": "input", "shape": []},
        "h": {"op": "identity", "inputs": ["x"]},
        "r": {"op": "sqrt", "inputs": [{"from": "h", "delay": {"value": 3, "error": 0}}]},
        "s": {"op": "identity", "inputs": ["h"]},
    }
    task = make_task({"vertices": vertices}, rule("il", step_size=1.0), ticks=9, batch=1, keep_values=False)
    task.inputs["x"][...], task.targets["r"][...], task.targets["s"][...] = 0.1, -0.2, 0.3
    moved = 0.1 + (0.3 - 0.1) + 0.5 / np.sqrt(0.1) * (-0.2 - np.sqrt(0.1))
    with pytest.raises(DomainError, match=r"vertex 'r' at tick 4: square root of a negative number") as caught:
        run_task(engine, task)
    named = float(str(caught.value).split("number: ")[1].split(" ")[0])
    assert named == pytest.approx(moved, abs=1e-12)


def test_infinite_slope_is_a_domain_error(engine):
    with pytest.raises(DomainError, match=r"vertex 'bad' at tick 0: the derivative of sqrt is not finite at 0.0"):
        run_task(engine, at_work("sqrt", 0.0))


def test_overflow_in_the_sweep_is_named(engine):
    vertices = {
        "x": {"op": "input", "shape": []},
        "h": {"op": "exp", "inputs": ["x"]},
        "k": {"op": "exp", "inputs": ["h"]},
        "y": {"op": "tanh", "inputs": ["k"]},
    }
    task = make_task({"vertices": vertices}, "fpa")
    task.inputs["x"][...] = 10.0
    with pytest.raises(NumberOverflowError, match="vertex 'k' in the feedforward sweep: its value grew beyond float64"):
        engine(task)


def test_unstable_inference_ends_in_a_named_error(engine):
    task = make_task(SKIP | {"outputs": ["y"]}, rule("il", step_size=1e6), ticks=400, away=1.0)
    with pytest.raises(NumberOverflowError, match=r"vertex '\w+' at tick \d+: its error grew beyond float64$"):
        run_task(engine, task)


def test_overflow_of_an_update_is_named(engine):
    """Errors and values of 1e25 are fine in float32, their product is not."""
    document = {"vertices": {"x": {"op": "input", "shape": [2]}, "y": {"op": "affine", "units": 1, "inputs": ["x"]}}}
    task = make_task(document, "fpa", dtype="float32", ticks=2)
    task.inputs["x"][...], task.targets["y"][...] = 1e25, -1e25
    with pytest.raises(NumberOverflowError, match=r"vertex 'y' at tick 1: its update grew beyond float32"):
        run_task(engine, task)


# -- learning at every tick -----------------------------------------------------------------------------


def test_incremental_learning_moves_parameters_at_every_tick(engine):
    """Every tick's lesson is applied times the learning rate; what was learnt is the sum of lessons."""
    row = rule("incremental", step_size=0.1, learning_rate=0.02)
    task = make_task(SKIP, row, ticks=10, away=1.0)
    run = run_task(engine, task)
    for name, series in run.parameters.items():
        assert np.all(np.abs(np.diff(series, axis=0)).reshape(9, -1).max(axis=1)[2:] > 0)
        assert np.allclose(series - task.parameters[name], 0.02 * run.taught[name], rtol=1e-10, atol=1e-15)
        assert np.array_equal(run.learnt[name], run.taught[name][-1])


def test_incremental_learning_uses_the_parameters_of_the_tick(engine):
    """A lone layer: the prediction at each tick is W(t) x + b(t), W(t) as the ticks before left it."""
    document = {"vertices": {"x": {"op": "input", "shape": [3]}, "y": {"op": "affine", "units": 2, "inputs": ["x"]}}}
    task = make_task(document, rule("incremental", learning_rate=0.1), ticks=5, away=1.0)
    run = run_task(engine, task)
    for tick in range(1, 5):
        weight, bias = (run.parameters[name][tick - 1] for name in ("y.weight", "y.bias"))
        assert np.allclose(run.seen["prediction"]["y"][tick], task.inputs["x"] @ weight.T + bias, rtol=1e-12)


# -- sharing --------------------------------------------------------------------------------------------

SKIP = {
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "a": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
        "b": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["a"]},
        "c": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["b"]},
        "y": {"op": "add", "inputs": ["c", "a"]},
    }
}


def shared_chain(users):
    """Return a chain whose ``users`` layers share weight and bias, two activations in turn."""
    vertices = {"x": {"op": "input", "shape": [3]}}
    for number in range(1, users + 1):
        pre = "x" if number == 1 else f"h{number - 1}"
        vertices[f"h{number}"] = {
            "op": "affine", "units": 3, "inputs": [pre], "params": {"weight": "W", "bias": "b"},
            "activation": ["tanh", "sin"][number % 2],
        }  # fmt: skip
    shared = {"W": {"shape": [3, 3], "init": {"normal": [0.0, 0.6]}}, "b": {"shape": [3]}}
    return {"vertices": vertices, "parameters": shared}


MIXED_USE = {
    "parameters": {"W": {"shape": [3, 3]}},
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "w": {"op": "parameter", "shape": [3, 3], "params": {"value": "W"}},
        "h": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"], "params": {"weight": "W"}},
        "m": {"op": "matmul", "inputs": ["w", "h"]},
        "s": {"op": "tanh", "inputs": ["w"]},
        "g": {"op": "matmul", "inputs": ["s", "m"]},
        "y": {"op": "add", "inputs": ["g", "h", "h"]},
    },
}
"""One matrix as a layer's weight, as a factor of a product, and elementwise."""


@pytest.mark.parametrize(
    "document", [shared_chain(SHARED_BY - 1), shared_chain(SHARED_BY), shared_chain(10), MIXED_USE]
)
def test_shared_parameters_sum_over_their_users(engine, document):
    """Section 4: each user contributes at its own level; the sum is the gradient ([S], RNN through time)."""
    for form in ("delay", "identity"):
        task = make_task(document, "zil", form, away=0.1)
        learnt, wanted = run_task(engine, task, ()).learnt, backprop(task).gradients
        assert all(np.allclose(learnt[name], wanted[name], rtol=1e-12, atol=1e-14) for name in wanted)


# -- samples and tasks ----------------------------------------------------------------------------------


def sample_of(task, number):
    """Return the task of one sample alone."""
    parts = {key: {n: a[number : number + 1] for n, a in getattr(task, key).items()} for key in ("inputs", "targets")}
    return replace(task, batch=1, **parts)


@given(document=documents(max_size=6), row=st.sampled_from(["il", "fpa", "zil"]))
def test_inference_does_not_depend_on_the_batch(numpy_engine, document, row):
    """Section 3, sums, not means: a sample alone has the errors it has among others; updates add up."""
    task = make_task(document, tame(row), ticks=5, away=1e-3)
    run, alone = (
        outcome(numpy_engine, task),
        [outcome(numpy_engine, sample_of(task, number)) for number in range(task.batch)],
    )
    if any(isinstance(found, RunError) for found in (run, *alone)):
        return
    for name, error in run.errors.items():
        together = np.stack([found.errors[name][:, 0] for found in alone], axis=1)
        assert np.allclose(error, together, rtol=1e-10, atol=1e-14)
    assert all(
        np.allclose(run.learnt[p], sum(found.learnt[p] for found in alone), rtol=1e-9, atol=1e-14) for p in run.learnt
    )


@given(document=documents(max_size=5), row=st.sampled_from(list(VALUE_RULES)))
def test_a_run_leaves_its_task_as_it_was(engine, document, row):
    task = make_task(document, tame(row), ticks=3, away=0.01)
    parts = (task.parameters, task.inputs, task.targets)
    before = [{name: array.copy() for name, array in part.items()} for part in parts]
    outcome(engine, task)
    assert all(
        np.array_equal(array, kept[name])
        for part, kept in zip(parts, before, strict=True)
        for name, array in part.items()
    )


# -- small and odd graphs -------------------------------------------------------------------------------


def scalar(op, *inputs, **attributes):
    return {"op": op, "inputs": list(inputs), **attributes}


X, X1 = {"op": "input", "shape": []}, {"op": "input", "shape": [1]}
ODD = {
    "output on input": {"x": X, "y": scalar("identity", "x")},
    "input twice": {"x": X1, "y": scalar("add", "x", "x")},
    "squared by hand": {"x": X, "h": scalar("tanh", "x"), "y": scalar("multiply", "h", "h")},
    "constants only": {"c": {"op": "constant", "value": 2.0}, "y": scalar("square", "c")},
    "parameters only": {"w": {"op": "parameter", "shape": []}, "v": {"op": "parameter", "shape": [2]},
                        "h": scalar("multiply", "w", "v"), "k": scalar("tanh", "h"), "y": scalar("add", "k", "w")},
    "one layer": {"x": X1, "y": scalar("affine", "x", units=1)},
    "three edges, one late": {"x": X1, "h": scalar("affine", "x", units=1),
                              "y": scalar("add", "h", {"from": "h", "delay": 2}, "h")},
    "broadcast": {"x": X, "z": {"op": "input", "shape": [2, 3]}, "h": scalar("tanh", "x"),
                  "y": scalar("multiply", "h", "z")},
    "two outputs": {"x": X1, "h": scalar("affine", "x", units=2), "y": scalar("tanh", "h"), "z": scalar("sum", "h")},
    "several delays of one value": {
        "x": X,
        "h": scalar("tanh", "x"),
        "y": scalar("add", *({"from": "h", "delay": {"value": d, "error": 3 - d}} for d in range(4))),
    },
    "unused parts": {"x": X, "z": X, "w": {"op": "parameter", "shape": [2]}, "y": scalar("tanh", "x")},
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", list(ODD))
def test_small_and_odd_graphs_run_under_every_rule(engine, name, dtype, batch):
    for row in VALUE_RULES:
        task = make_task({"vertices": ODD[name]}, tame(row), "delay", dtype, batch=batch, ticks=9, away=0.3)
        run, wanted = run_task(engine, task), backprop(task)
        assert all(series.dtype == dtype for what in PER_TICK for series in run.seen[what].values())
        assert all(np.isfinite(update).all() and update.dtype == dtype for update in run.learnt.values())
        if row in ("zil", "bp"):
            assert all(np.allclose(run.learnt[p], g, rtol=1e-5, atol=1e-7) for p, g in wanted.gradients.items())


def test_an_engine_of_no_name_is_refused():
    with pytest.raises(InputError, match="did you mean 'numpy'"):
        open_engine("numpi")


CROSS = {"vertices": {**SKIP["vertices"], "y": {"op": "affine", "units": 3, "inputs": ["c"]}}}


@pytest.mark.parametrize("row", ["fpa", "il"])
def test_cross_entropy_outputs_hold_their_error_or_follow_their_prediction(engine, row):
    """[Z] 3.12: the error of a loss output is -dL/dmu at the current mu: fixed with fixed predictions, else moving."""
    task = make_task(CROSS, rule(row, step_size=0.2), ticks=12, losses="mixed")
    run, target = run_task(engine, task), task.targets["y"]
    weights = np.exp(run.seen["prediction"]["y"])
    wanted = target - weights / weights.sum(axis=-1, keepdims=True) * target.sum(axis=-1, keepdims=True)
    assert np.allclose(run.errors["y"], wanted, rtol=1e-12, atol=1e-14)
    assert np.array_equal(run.errors["y"][0], run.errors["y"][-1]) == (row == "fpa")


# -- frozen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["zil", "fa-zil"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_engines_agree_where_vertices_are_frozen(numpy_engine, row, dtype):
    """Far targets and step size 1 drive vertices that have fired out of the range of numbers, and they are frozen.

    No number that is none is read from either engine, and both learn what backprop says.
    """
    rested = 0
    for seed in range(24):
        document = random_document(seed, Features(size=8, dead_ends=seed % 2 == 0, delays=seed % 3 == 0))
        task = make_task(document, row, "delay", dtype, seed, away=30.0)
        mine, other = run_task(numpy_engine, task), run_task(open_engine("actors"), task)
        for run in (mine, other):
            assert all(np.isfinite(array).all() for table in run.seen.values() for array in table.values())
        rested += bool(mine.session.frozen())
        assert set(mine.session.frozen()) == set(other.session.frozen())
        gradients = backprop(task).gradients
        punctual = [name for name, users in task.graph.uses.items() if not _late(task, mine, users)]
        scale = max(np.abs(value).max(initial=0) for value in gradients.values()) or 1.0
        for run, name in product((mine, other), punctual):
            assert np.abs(run.learnt[name] - gradients[name]).max() <= (1e-12 if dtype == "float64" else 5e-6) * scale
    assert rested >= 4


def _late(task, run, users):
    levels = vertex_levels(task.graph)
    return any(run.fired.get(user, levels[user]) != levels[user] for user in users if levels[user] is not None)


def test_a_vertex_that_has_not_fired_is_never_frozen(engine):
    """[So]: k is late, for its fellow q is off at first, and fires when p, without parameters, is frozen."""
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
    task = make_task(document, rule("fa-zil", ticks=8), "delay", "float32", 0, away=1e20)
    task.inputs["x"][...], task.targets["y"][...] = 1.0, 1e20
    run = run_task(engine, task)
    assert run.session.frozen() == {"p": 3}
    assert run.fired["k"] == 3 > vertex_levels(task.graph)["k"]


def test_dead_ends_contribute_nothing_when_a_run_goes_on(engine):
    """A vertex from which no output can be reached has no gradient, however long a run takes."""
    document = {
        "vertices": {
            "x": {"op": "input", "shape": [2]},
            "h": {"op": "affine", "units": 2, "activation": "tanh", "inputs": ["x"]},
            "y": {"op": "affine", "units": 2, "inputs": ["h"]},
            "dead": {"op": "affine", "units": 2, "inputs": ["h"]},
        },
        "outputs": ["y"],
    }
    task = make_task(document, rule("fa-zil", ticks=8), "delay", "float64", 0, away=0.5)
    run = run_task(engine, task)
    assert not run.learnt["dead.weight"].any()
    assert "dead" not in run.fired
