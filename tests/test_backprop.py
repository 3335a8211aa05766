"""The reference is right (HIPS autograd, central differences), and what should equal it does."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import autograd.numpy as anp
import numpy as np
import op_cases_functions
import op_cases_structure
import pytest
from autograd import grad
from autograd.tracer import getval
from hypothesis import given
from op_cases_convolution import correlated, parts, with_bias
from strategies import FLAT, SEPARATE, Features, documents, make_task, random_document, run_task

from pcsim.analysis.backprop import backprop
from pcsim.analysis.measures import MEASURES, Evidence
from pcsim.graph import light_cone, vertex_levels
from pcsim.rules import rule

# -- the reference against an interpreter of its own ---------------------------------------------------


def soft(x, axis):
    weights = anp.exp(x - anp.max(x, axis=axis, keepdims=True))
    return weights / anp.sum(weights, axis=axis, keepdims=True)


def activation(call):
    return op_cases_functions.FUNCTIONS[call["activation"].replace("none", "identity")]


def affine(call, params, x):
    f, bias = activation(call), params.get("bias", 0.0)
    if call["convention"] == "f(Wx+b)":
        return f(anp.dot(x, params["weight"].T) + bias)
    return anp.dot(f(x), params["weight"].T) + bias


def projection(call, params, *inputs):
    synapses, total = call["synapses"], params.get("bias", 0.0)
    for n, weight in enumerate(params["weight"]):
        one = np.eye(synapses.units)[synapses.post[n]]
        total = total + weight * inputs[synapses.delays.index(synapses.delay[n])][synapses.pre[n]] * one
    return activation(call)(total)


def weighted_sum(call, params, *inputs):
    total = params.get("bias", 0.0)
    for weight, x in zip(params["weight"], inputs, strict=True):
        total = total + weight * x
    return activation(call)(total)


def sliced(call, params, x):
    return x[(slice(None),) * (call["axis"] % x.ndim) + (slice(call["start"], call["stop"], call["step"]),)]


def conv(call, params, x):
    z = correlated(params["weight"], x, call["kernel"], call["groups"], dict(call.attributes))
    return activation(call)(with_bias(z, params, len(call["kernel"])))


def windows(call, x, value):
    how = {key: call[key] for key in ("padding", "dilation")}
    stride = call["stride"] or call["kernel"]
    return anp.stack([part for _, part in parts(x, len(call["kernel"]), call["kernel"], stride, **how, value=value)])


def max_pool(call, params, x):
    """Of equal elements the first counts."""
    found = windows(call, x, -100.0)
    first = np.argmax(getval(found), axis=0)
    return sum(part * (first == number) for number, part in enumerate(found))


def product(call, params, *factors):
    return factors[0] * (product(call, params, *factors[1:]) if factors[1:] else 1.0)


MEANING = {
    **op_cases_functions.MEANING,
    "add": lambda call, params, x, *others: x + (MEANING["add"](call, params, *others) if others else 0.0),
    "subtract": lambda call, params, a, b: a - b,
    "multiply": product,
    "divide": lambda call, params, a, b: a / b,
    "power": lambda call, params, x, y=None: anp.exp((call["exponent"] if y is None else y) * anp.log(x)),
    "affine": affine,
    "projection": projection,
    "weighted_sum": weighted_sum,
    "sum": lambda call, params, x: anp.sum(x, axis=call["axis"], keepdims=call["keepdims"]),
    "mean": lambda call, params, x: anp.mean(x, axis=call["axis"], keepdims=call["keepdims"]),
    "concat": lambda call, params, *x: anp.concatenate(x, axis=call["axis"]),
    "slice": sliced,
    "reshape": lambda call, params, x: anp.reshape(x, call.shape),
    "transpose": lambda call, params, x: anp.transpose(x, call["axes"]),
    "softmax": lambda call, params, x: soft(x, call["axis"]),
    "log_softmax": lambda call, params, x: anp.log(soft(x, call["axis"])),
    "conv": conv,
    "max_pool": max_pool,
    "average_pool": lambda call, params, x: anp.mean(windows(call, x, 0.0), axis=0),
    **op_cases_structure.MEANING,
}
LOSS = {
    "squared_error": lambda mu, target: 0.5 * anp.sum((target - mu) ** 2),
    "cross_entropy": lambda mu, target: -anp.sum(target * anp.log(soft(mu, -1))),
}


def interpreted_loss(task, theta):
    """Return the loss, sample by sample, in autograd's NumPy."""
    return sum(sample_loss(task, theta, number) for number in range(task.batch))


def sample_loss(task, theta, number):
    values = {}
    for name, vertex in task.graph.vertices.items():
        params = {slot: theta[parameter] for slot, parameter in vertex.params}
        if vertex.op.role == "function":
            values[name] = MEANING[vertex.op.name](
                vertex.call, params, *(values[edge.pre] for edge in task.graph.incoming[name])
            )
        else:
            values[name] = params["value"] if vertex.op.role == "parameter" else task.inputs[name][number]
    return sum(anp.sum(weighted_loss(task, name, values[name], number)) for name in task.targets)


def weighted_loss(task, name, mu, number):
    return LOSS[task.losses[name]](mu, task.targets[name][number])


def test_backprop_equals_autograd_on_random_graphs():
    """[S] eq. 2-4, against HIPS autograd run over an interpreter that shares no op with pcsim."""
    for seed in range(60):
        task = make_task(random_document(seed), seed=seed, batch=2, away=1.0, losses="mixed")
        theta = {name: np.array(value) for name, value in task.parameters.items()}
        wanted, got = grad(lambda p, task=task: interpreted_loss(task, p))(theta), backprop(task)
        whole = norm(wanted)
        assert got.loss == pytest.approx(interpreted_loss(task, theta), rel=1e-12)
        assert all(np.linalg.norm(got.gradients[name] + wanted[name]) <= 1e-12 * whole for name in theta)


def test_backprop_equals_central_differences():
    for seed in range(8):
        task = make_task(random_document(seed, Features(ops=SMOOTH)), seed=seed, away=1.0, losses="mixed")
        got = backprop(task).gradients
        direction = {
            name: np.random.default_rng(seed).normal(size=value.shape) for name, value in task.parameters.items()
        }
        slope = (moved_loss(task, direction, 1e-5) - moved_loss(task, direction, -1e-5)) / 2e-5
        along = -sum(float(np.sum(got[name] * direction[name])) for name in got)
        assert along == pytest.approx(slope, rel=1e-6, abs=1e-7)


SMOOTH = ("tanh", "sin", "affine", "multiply", "add", "divide", "sqrt", "softmax", "matmul", "exp")


def moved_loss(task, direction, by):
    parameters = {name: value + by * direction[name] for name, value in task.parameters.items()}
    return backprop(replace(task, parameters=parameters)).loss


# -- rules that equal backprop --------------------------------------------------------------------------

TOLERANCE = {"float64": 1e-12, "float32": 5e-6}
COUNT = 200
"""Random graphs; each is run with targets far from and near to the outputs."""


def norm(arrays):
    return np.sqrt(sum(float(np.sum(np.asarray(array, np.float64) ** 2)) for array in arrays.values()))


def differences(learnt, wanted, names=None):
    """Return how far updates are from gradients: over all parameters, and the worst single parameter.

    A parameter's difference is relative to its own gradient, or to 1e-3 of the whole one where its own is
    smaller: below that, it is rounding of terms that cancel, of the size of the whole.
    """
    names = list(wanted) if names is None else names
    away = {name: learnt[name].astype(np.float64) - wanted[name] for name in names}
    whole = norm({name: wanted[name] for name in wanted}) or 1.0
    single = (norm({0: away[name]}) / max(norm({0: wanted[name]}), 1e-3 * whole) for name in names)
    return norm(away) / whole, max(single, default=0.0)


NEAR = {"float64": 1e-2, "float32": 0.1}
"""How far near targets are. Two predictions of 1 that round in different places are 1e-7 apart in float32, and what an
error of 1e-3 is known to would be 1e-4 of itself."""


def distance(seed, dtype):
    """Return how far the targets of a random graph are from the outputs: near and far in turn."""
    return (1.0, NEAR[dtype], 10.0)[seed % 3]


ERRORS_PASS = tuple(name for name in SEPARATE if name not in FLAT)
"""Ops through which most errors pass: others end them, exactly."""


def exact_tasks(row, form, dtype, count=COUNT, ops=SEPARATE):
    """Yield tasks on random graphs, with dead ends in every other, and targets near and far in turn."""
    for seed in range(count):
        features = Features(dead_ends=seed % 2 == 0, ops=ops)
        yield make_task(random_document(seed, features), row, form, dtype, seed, away=distance(seed, dtype))


def run_to_the_end(engine, tasks):
    """Yield (task, run): every run comes to its end, also where vertices that have fired diverge."""
    for task in tasks:
        yield task, run_task(engine, task, ("error",))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", ["delay", "identity"])
@pytest.mark.parametrize("row", ["zil", "bp"])
def test_updates_equal_backprop(numpy_engine, row, form, dtype):
    """[S] theorem, eq. 16: on a levelled DAG, the update at the tick of the level is that of backprop."""
    for task, run in run_to_the_end(numpy_engine, exact_tasks(row, form, dtype)):
        assert max(differences(run.learnt, backprop(task).gradients)) <= TOLERANCE[dtype]


def late_vertices(task, run):
    """Return the vertices that ``late_firing`` reports."""
    names = task.graph.active
    moved = [np.nonzero(run.errors[name].any(axis=tuple(range(1, run.errors[name].ndim))))[0] for name in names]
    arrival = np.array([ticks[0] if len(ticks) else -1 for ticks in moved])
    return MEASURES["late_firing"].take(
        Evidence(task, run.session, SimpleNamespace(names=names, arrival=arrival), None)
    )


def punctual(task, late):
    """Return the parameters that no vertex uses which fired late."""
    return [name for name, users in task.graph.uses.items() if not set(users) & set(late)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", ["delay", "identity"])
def test_autonomous_updates_equal_backprop_but_for_vertices_reported_late(numpy_engine, form, dtype):
    """[So]: fires on arrival; exempt is only the contribution of a vertex whose error was exactly zero when due."""
    exempt = 0
    for task, run in run_to_the_end(numpy_engine, exact_tasks("fa-zil", form, dtype, ops=ERRORS_PASS)):
        reference, late = backprop(task), late_vertices(task, run)
        assert not any(reference.errors[name].any() for name in late)
        assert all(run.fired[name] == late[name]["fired"] for name in late if name in run.fired)
        names = punctual(task, late)
        assert max(differences(run.learnt, reference.gradients, names)) <= TOLERANCE[dtype]
        exempt += len(task.graph.parameters) - len(names)
    assert exempt < 0.1 * COUNT


@pytest.mark.parametrize("row", ["zil", "fa-zil", "bp"])
@pytest.mark.parametrize("form", ["delay", "identity"])
def test_updates_equal_backprop_on_every_engine(engine, row, form):
    for task, run in run_to_the_end(engine, exact_tasks(row, form, "float64", 25)):
        names = punctual(task, late_vertices(task, run))
        assert max(differences(run.learnt, backprop(task).gradients, names)) <= TOLERANCE["float64"]


MILD = (
    "affine",
    "affine",
    "tanh",
    "sigmoid",
    "sin",
    "cos",
    "add",
    "subtract",
    "softmax",
    "concat",
    "mean",
    "parameter",
    "multiply",
)


@given(document=documents(max_size=8, ops=MILD, dead_ends=False))
def test_mild_graphs_equal_backprop_at_full_errors(numpy_engine, document):
    """Targets one standard deviation away, where ops are defined everywhere and bounded: no run fails."""
    for losses in ("squared_error", "mixed"):
        task = make_task(document, "zil", "delay", away=1.0, losses=losses)
        run = run_task(numpy_engine, task, ())
        assert max(differences(run.learnt, backprop(task).gradients)) <= TOLERANCE["float64"]


def test_output_precision_and_variance_weigh_what_backprop_weighs(engine):
    """Precision of an output scales its error; output variance k cancels with k in the update ([Z] 3.3)."""
    document = {
        "vertices": {
            "x": {"op": "input", "shape": [3]},
            "h": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
            "y": {"op": "affine", "units": 2, "inputs": ["h"], "precision": [0.5, 3.0]},
        }
    }
    for row in (rule("zil"), rule("zil", output_variance=7.0)):
        task = make_task(document, row, away=1.0)
        assert max(differences(run_task(engine, task, ()).learnt, backprop(task).gradients)) <= 1e-14


def test_zil_short_of_ticks_learns_only_what_has_fired(engine):
    document = random_document(3)
    whole = make_task(document, "zil", "delay", away=1e-6)
    task = replace(whole, ticks=3)
    run, full = run_task(engine, task, ()), run_task(engine, whole, ())
    assert set(run.fired) == {name for name, tick in full.fired.items() if tick < 3}
    assert all(not run.learnt[name].any() for name, users in task.graph.uses.items() if not set(users) & set(run.fired))


def test_light_cone_is_the_level_on_levelled_graphs():
    for task in exact_tasks("fa-zil", "delay", "float64", 50):
        found, cone = vertex_levels(task.graph), light_cone(task.graph, moving=True)
        assert all(cone[name] == found[name] for name in task.graph.active if found[name] is not None)
