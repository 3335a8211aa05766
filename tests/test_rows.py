"""A row is a row: ops, losses, firing policies and feedback that a stranger registers, on every engine and shortcut.

Nothing in pcsim is touched for them: each agrees with ``actors``, as engines must, or is refused by name before the
run.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import strategies
from conftest import opened
from strategies import VALUE_RULES, Features, make_task, random_document, run_task
from test_backprop import differences, late_vertices, punctual
from test_engines import (
    SMALL_STEPS,
    TOLERANCE,
    assert_equal_runs,
    far_apart,
    nudged,
    outcome,
    rounding,
    scaled_difference,
    series_of,
)

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.analysis.closed import closed_form
from pcsim.analysis.cost import tick_work, update_work
from pcsim.analysis.theory import has_closed_form, relaxation
from pcsim.engines import ENGINES, open_engine
from pcsim.engines.ensembles import together
from pcsim.engines.operands import draws_of
from pcsim.errors import InputError, RunError
from pcsim.graph import graph_from, level, levels
from pcsim.ops import FEEDBACKS, LOSSES, OPS, Feedback, Loss, Op, ParameterSpec
from pcsim.ops.leading import fold
from pcsim.ops.op import Cost, InputSlot
from pcsim.rules import FIRINGS, RULES, Firing, rule
from pcsim.view.scenario_plan import plan_of

# -- the rows -------------------------------------------------------------------------------------------


def along_units(array, rank):
    """Return (stack, units) so that it multiplies an array of so many axes."""
    return array.reshape(array.shape[0], *[1] * (rank - 2), array.shape[-1])


def gate_forward(xp, call, params, inputs):
    a, b = inputs
    open_ = 1 / (1 + xp.exp(-along_units(params["weight"], a.ndim) * a))
    return open_ * b, (open_,)


def gate_to_inputs(xp, call, params, inputs, mu, saved, g):
    (a, b), (open_,) = inputs, saved
    slope = along_units(params["weight"], a.ndim) * open_ * (1 - open_)
    return fold(xp, g * slope * b, a), fold(xp, g * open_, b)


def gate_to_params(xp, call, params, inputs, mu, saved, g):
    (a, b), (open_,) = inputs, saved
    terms = g * a * b * open_ * (1 - open_)
    found = xp.sum(terms, axis=tuple(range(1, terms.ndim - 1)))
    shared = params["weight"].shape[0] == 1
    return {"weight": xp.sum(found, axis=0, keepdims=True) if shared else found}


GATE = Op(
    name="gate",
    summary="sigmoid(w a) b",
    arity=(2, 2),
    shape=lambda call: call.shapes[1],
    forward=gate_forward,
    to_inputs=gate_to_inputs,
    to_params=gate_to_params,
    params=lambda call: {"weight": ParameterSpec(call.shapes[0][-1:])},
    cost=lambda call: Cost(multiply_adds=3.0 * np.prod(call.shape), weights=call.shapes[0][-1]),
)
"""An op of parameters, without a kernel."""

CENTRED = Op(
    name="centred",
    summary="less the mean of the batch",
    arity=(1, 1),
    shape=lambda call: call.shapes[0],
    forward=lambda xp, call, params, inputs: (inputs[0] - xp.mean(inputs[0], axis=1, keepdims=True), ()),
    to_inputs=lambda xp, call, params, inputs, mu, saved, g: (
        (lambda h: h - xp.mean(h, axis=1, keepdims=True))(fold(xp, g, inputs[0])),
    ),
    couples=lambda call: True,
)
"""An op that couples the samples of a batch, and is linear."""


def picked_forward(xp, call, params, inputs):
    x, which = inputs
    front = np.broadcast_shapes(x.shape[:2], which.shape[:2])
    x, which = xp.broadcast_to(x, (*front, x.shape[-1])), xp.broadcast_to(which, front)
    return xp.take_along_axis(x, which[..., None], axis=-1)[..., 0], ()


def picked_to_inputs(xp, call, params, inputs, mu, saved, g):
    x, which = inputs
    here = xp.arange(x.shape[-1]) == xp.broadcast_to(which, g.shape)[..., None]
    return fold(xp, xp.where(here, g[..., None], xp.zeros((), g.dtype)), x), None


PICKED = Op(
    name="picked",
    summary="the element that a whole number chooses",
    arity=(2, 2),
    shape=lambda call: (),
    forward=picked_forward,
    to_inputs=picked_to_inputs,
    inputs=(InputSlot("values"), InputSlot("which", differentiable=False, format="whole")),
    domain=lambda xp, call, inputs: (1, (inputs[1] < 0) | (inputs[1] >= call.shapes[0][-1])),
    domain_text="no such element",
)
"""An op with a slot of whole numbers beside one of floating-point numbers."""

LARGE = Op(
    name="large",
    summary="whole numbers above 2^24 less 2^24",
    arity=(1, 1),
    shape=lambda call: call.shapes[0],
    forward=lambda xp, call, params, inputs: ((inputs[0] - 2**24).astype(params["one"].dtype), ()),
    to_inputs=lambda *_: (None,),
    draws=lambda call, batch, rng: {"one": np.ones((batch, *call.shape))},
    inputs=(InputSlot("numbers", differentiable=False, format="whole"),),
)


def smooth_value(xp, mu, target):
    error = target - mu
    terms = xp.sqrt(1 + error * error) - 1
    return xp.sum(terms.reshape(*terms.shape[:2], -1), axis=-1)


SMOOTH = Loss(
    name="smooth_absolute",
    summary="sqrt(1 + e^2) - 1",
    value=smooth_value,
    error=lambda xp, mu, target: (target - mu) / xp.sqrt(1 + (target - mu) ** 2),
)
SIGN = Feedback(
    name="sign",
    summary="the signs of the forward weights",
    operands=lambda xp, params: {name: xp.sign(value) for name, value in params.items()},
)
POLICIES = (
    Firing("third", "at every third tick", lambda tick, level, last: tick % 3 == 2),
    Firing("third_within", "at every third tick, and parameters take it at once",
           lambda tick, level, last: tick % 3 == 2, applies=True),
    Firing("after_level", "two ticks after the level", lambda tick, level, last: (level >= 0) & (tick == level + 2)),
    Firing("late_arrival", "the first even tick at which the error has left zero",
           lambda tick, level, last: (level >= 0) & (tick % 2 == 0), waits=True),
    Firing("patient", "in the last tick, or at a fourth before, with the first error that is there",
           lambda tick, level, last: (level >= 0) & (last | (tick % 4 == 0)), waits=True),
    Firing("from_level", "from the tick of the level on", lambda tick, level, last: (level >= 0) & (tick >= level)),
)  # fmt: skip
NEW_RULES = {
    f"{name}-{policy.name}": replace(RULES[name], name=f"{name}-{policy.name}", fires=policy)
    for name in ("il", "fpa", "zil", "bp")
    for policy in POLICIES
    if RULES[name].moving or not policy.applies
}
NEW_OPS = (GATE, CENTRED, PICKED)


def a_gate(draft):
    a = draft.bounded(draft.pick(strategies.has_axes))
    return draft.add("gate", a, draft.pick(lambda shape: shape == draft.shapes[a], draft.shapes[a]))


def a_picked(draft):
    which = draft.add("input", shape=[], format="whole")
    draft.whole.add(which)
    return draft.add("picked", draft.pick(lambda shape: len(shape) == 1 and shape[0] >= 4, (4,)), which)


RECIPES = {"gate": a_gate, "picked": a_picked, "centred": lambda draft: draft.add("centred", draft.pick())}
SEPARATE = strategies.SEPARATE
OFTEN = (*SEPARATE, *("gate", "centred", "picked") * 8)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register them all, as a stranger would."""
    for table, rows in ((OPS, (*NEW_OPS, LARGE)), (LOSSES, (SMOOTH,)), (FEEDBACKS, (SIGN,)), (FIRINGS, POLICIES)):
        for row in rows:
            monkeypatch.setitem(table, row.name, row)
    for name, row in NEW_RULES.items():
        monkeypatch.setitem(RULES, name, row)
    for name, recipe in RECIPES.items():
        monkeypatch.setitem(strategies.RECIPES, name, recipe)


# -- tasks that use them --------------------------------------------------------------------------------


def tame(name):
    step = SMALL_STEPS.get(name.split("-")[0] if name in NEW_RULES else name)
    if RULES[name].fires.applies:
        step = 0.05
    return RULES[name] if step is None else replace(RULES[name], step_size=step)


def signed(document, seed):
    """Return the document with the signs as feedback at every third vertex."""
    rng = np.random.default_rng(seed)
    free = {"input", "constant", "parameter"}
    vertices = {
        name: entry | ({"feedback": "sign"} if entry["op"] not in free and rng.random() < 0.5 else {})
        for name, entry in document["vertices"].items()
    }
    return document | {"vertices": vertices}


def smooth(task):
    """Return the task with the new loss at every other output."""
    return replace(
        task,
        losses={
            name: "smooth_absolute" if number % 2 == 0 else loss
            for number, (name, loss) in enumerate(task.losses.items())
        },
    )


KINDS = ("op", "loss", "feedback", "firing")


def task_of(kind, row, seed, dtype="float64", ticks=8, **more):
    """Return a task on a random graph with something new of one kind."""
    features = Features(size=7, ops=OFTEN if kind == "op" else SEPARATE, dead_ends=seed % 5 == 0,
                        precision=seed % 4 == 1)  # fmt: skip
    document = random_document(seed, features)
    document = signed(document, seed) if kind == "feedback" else document
    form = ("none", "delay", "identity")[seed % 3]
    task = make_task(
        document, tame(row), form, dtype, seed, 2 + seed % 2, ticks=ticks, away=0.01, losses="mixed", **more
    )
    return smooth(task) if kind == "loss" else task


def assert_agree(engine, task, dtype="float64"):
    """Decision 19: within the tolerance, or within what rounding of what it is given leaves open."""
    got, wanted = outcome(engine, task), outcome(open_engine("actors"), task)
    if isinstance(wanted, RunError):
        assert type(got) is type(wanted)
    elif far := far_apart(got, wanted, TOLERANCE[dtype]):
        others = [series_of(run_task(open_engine("actors"), nudged_floats(task, draw))) for draw in range(3)]
        for key, (ours, theirs) in far.items():
            known = max(scaled_difference(other[key], theirs) for other in others)
            assert scaled_difference(ours, theirs) <= max(8 * known, rounding(wanted, task.graph, *key)), key


def nudged_floats(task, draw):
    """Return the task with its numbers moved by one unit in the last place; whole numbers stay."""
    whole = {name: array for name, array in task.inputs.items() if np.asarray(array).dtype.kind == "i"}
    moved = nudged(task, draw)
    return replace(moved, inputs={**moved.inputs, **whole})


SITUATIONS = [(kind, row) for kind in KINDS[:3] for row in VALUE_RULES] + [("firing", row) for row in NEW_RULES]


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "actors"])
@pytest.mark.parametrize(("kind", "row"), SITUATIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_engines_agree_with_actors(kind, row, dtype, name):
    for seed in range(4):
        assert_agree(opened(name), task_of(kind, row, seed, dtype), dtype)


@pytest.mark.parametrize("row", ["zil", "fa-zil", "bp"])
def test_updates_equal_backprop(engine, row):
    """New ops and the new loss, levelled: what the rule learns is the gradient, in full or in what updates need."""
    for seed in range(4):
        for kind in ("op", "loss"):
            task = task_of(kind, row, seed, ticks=None)
            task = replace(task, graph=level(task.graph, "delay"), ticks=levels(task.graph))
            wanted = backprop(task).gradients
            for exact in (True, False):
                session = engine(replace(task, exact_dynamics=exact))
                session.advance(0, task.ticks, last=True)
                errors = run_task(engine, task, ("error",))
                names = punctual(task, late_vertices(task, errors)) if row == "fa-zil" else None
                assert max(differences(session.updates(), wanted, names)) <= 1e-12


def test_backprop_is_the_slope_of_the_loss():
    """Also of the new loss through new ops, against central differences of the loss itself."""
    for seed in range(8):
        task = smooth(make_task(random_document(seed, Features(size=7, ops=OFTEN)), "bp", seed=seed))
        rng, found = np.random.default_rng(seed), backprop(task)
        way = {name: rng.normal(size=np.shape(value)) for name, value in task.parameters.items()}

        def loss(step, task=task, way=way):
            moved = {name: value + step * way[name] for name, value in task.parameters.items()}
            return backprop(replace(task, parameters=moved)).loss

        along = -sum(float(np.sum(found.gradients[name] * way[name])) for name in way)
        assert along == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-5, abs=1e-7)


# -- many ticks, shortcuts, runs side by side -----------------------------------------------------------


def ended(session):
    return session.updates(), session.parameters(), session.fired()


def assert_same(found, wanted, tolerance):
    for ours, theirs in zip(found[:2], wanted[:2], strict=True):
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            np.testing.assert_allclose(ours[name], array, rtol=tolerance, atol=tolerance * 1e-2)
    assert found[2] == wanted[2]


@pytest.mark.parametrize(("kind", "row"), SITUATIONS)
def test_many_ticks_in_one_call_are_the_ticks(engine, kind, row):
    for seed in (1, 4):
        task = task_of(kind, row, seed)
        wanted = outcome(engine, task)
        session = engine(replace(task, exact_dynamics=False))
        squares = np.empty((task.ticks, len(task.graph.active)))
        if isinstance(wanted, RunError):
            with pytest.raises(type(wanted)):
                session.advance(0, task.ticks, last=True)
            continue
        session.advance(0, task.ticks, last=True)
        found = ended(session)
        assert_same(found, (wanted.learnt, wanted.session.parameters(), wanted.fired), 1e-9)
        session = engine(task)
        session.advance(0, 3, last=False, squares=squares[:3])
        session.advance(3, task.ticks, last=True, squares=squares[3:])
        assert_same(ended(session), found, 1e-9)
        column = {name: place for place, name in enumerate(name for names in session.layout() for name in names)}
        for name, error in wanted.errors.items():
            lengths = np.sqrt(np.sum(error.reshape(task.ticks, -1) ** 2, axis=1))
            np.testing.assert_allclose(np.sqrt(squares[:, column[name]]), lengths, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("kind", "row"), SITUATIONS)
def test_runs_side_by_side_are_those_alone(engine, kind, row):
    """Of other data and another step size; one of them ends in the middle, and learns what it would have alone."""
    first = task_of(kind, row, 3)
    other = task_of(kind, row, 3)
    other = replace(other, seed=9, targets={name: target + 0.01 for name, target in other.targets.items()})
    tasks = [first, replace(other, rule=replace(other.rule, step_size=0.9 * other.rule.step_size)), first]
    alone = [outcome(engine, task) for task in tasks]
    if any(isinstance(run, RunError) for run in alone):
        pytest.skip("this graph cannot be followed to its end")
    ensemble, stop = together(tasks, engine), 5
    for tick in range(first.ticks):
        ensemble.clock.predict(tick)
        ensemble.clock.send(tick)
        ensemble.clock.deliver(tick)
        for run, name in ((run, name) for run, task in enumerate(tasks) for name in task.graph.active):
            got = ensemble.members[run].reader("error", [name])()[0]
            np.testing.assert_allclose(got, alone[run].errors[name][tick], rtol=1e-10, atol=1e-13)
        ensemble.learn(tick, last=tick == first.ticks - 1)
        if tick == stop:
            ensemble.end(2, tick)
            learnt = dict(ensemble.members[2].updates())
        ensemble.clock.move()
    for run in (0, 1):
        member = ensemble.members[run]
        assert_same(ended(member), (alone[run].learnt, alone[run].session.parameters(), alone[run].fired), 1e-10)
    short = engine(replace(first, ticks=stop + 1))
    short.advance(0, stop + 1, last=True)
    for name, update in short.updates().items():
        np.testing.assert_allclose(learnt[name], update, rtol=1e-10, atol=1e-13)


# -- closed forms, predictions, costs -------------------------------------------------------------------


CLOSED = [("op", "fpa"), ("op", "bp"), ("loss", "fpa"), ("loss", "bp"), ("feedback", "fpa")]
CLOSED += [("firing", name) for name in NEW_RULES]


@pytest.mark.parametrize(("kind", "row"), CLOSED)
def test_closed_forms_are_right_or_refused_by_name(kind, row):
    refused = 0
    for seed in range(5):
        task = task_of(kind, row, seed)
        try:
            session = closed_form(task)
        except InputError as error:
            reasons = (repr(task.rule.name), "symmetric feedback", "precision", "step size below 2")
            refused += any(reason in str(error) for reason in reasons)
            continue
        wanted = run_task(open_engine("actors"), task)
        got = run_task(lambda _task, session=session: session, task)
        assert_equal_runs(got, wanted, 1e-11)
        assert has_closed_form(task)
    policy = task.rule.fires
    never = task.rule.moving or policy.waits or policy.applies or kind == "feedback"
    assert refused == 5 if never else refused < 5


def scenario(graph, rule, **more):
    whole = {name for name, entry in graph["vertices"].items() if entry.get("format") == "whole"}
    sources = [name for name, entry in graph["vertices"].items() if entry["op"] == "input"]
    inputs = {name: 1 if name in whole else {"normal": [0, 1]} for name in sources}
    return {"graph": graph, "inputs": inputs, "targets": {"y": {"normal": [0, 1]}}, "batch": 3, "rule": rule,
            "record": [], **more}  # fmt: skip


def chain(op, **last):
    """Return x -> h -> op -> y, linear but for the op."""
    vertices = {
        "x": {"op": "input", "shape": [4]},
        "i": {"op": "input", "shape": [], "format": "whole"},
        "h": {"op": "affine", "units": 4, "inputs": ["x"]},
        "new": {"op": op, "inputs": {"gate": ["h", "h"], "picked": ["h", "i"]}.get(op, ["h"])},
        "g": {"op": "reshape", "shape": [-1], "inputs": ["new"]},
        "y": {"op": "affine", "units": 2, "inputs": ["g"], **last},
    }
    if op != "picked":
        vertices.pop("i")
    return {"vertices": vertices, "outputs": ["y"]}


@pytest.mark.parametrize("op", ["gate", "centred", "picked"])
def test_predicted_ticks_are_right_or_none(op):
    """An op that couples samples foretells nothing, though it is linear; to pick is linear, if all pick alike."""
    for criterion in ("settled", "update"):
        document = scenario(chain(op), {"name": "il", "step_size": 0.3, "ticks": 600}, converged=criterion)
        found = pcsim.simulate(document).summary["ticks_to_convergence"]
        assert found["ticks"] is not None
        assert found["predicted"] == (found["ticks"] if op == "picked" else None)
        task = pcsim.load(document).task()
        assert (relaxation(task) is None) == (op != "picked")


@pytest.mark.parametrize("loss", ["squared_error", "smooth_absolute"])
def test_a_new_loss_foretells_what_it_can(loss):
    """Fixed predictions hold its error; moving ones relax otherwise than the theory of clamped outputs says."""
    for rule_, known in (({"name": "fpa", "step_size": 0.4, "ticks": 60}, True),
                         ({"name": "il", "step_size": 0.3, "ticks": 600}, loss == "squared_error")):  # fmt: skip
        document = scenario(chain("identity"), rule_) | {"targets": {"y": {"normal": [0, 1], "loss": loss}}}
        found = pcsim.simulate(document).summary["ticks_to_convergence"]
        assert found["ticks"] is not None
        assert found["predicted"] == (found["ticks"] if known else None)


def test_feedback_that_is_not_symmetric_foretells_nothing():
    graph = chain("identity", feedback="sign")
    for name in ("fpa", "il", "zil", "bp"):
        document = scenario(graph, {"name": name})
        assert pcsim.simulate(document).summary["ticks_to_convergence"]["predicted"] is None
        with pytest.raises(InputError, match="'y' has another" if name in ("fpa", "bp") else "fixed predictions"):
            pcsim.simulate(document | {"solve": "closed_form"})


@pytest.mark.parametrize("policy", [row.name for row in POLICIES if not row.applies])
def test_policies_foretell_when_errors_are_there(policy):
    """Under fixed predictions errors do not depend on who learns when; no level ends them."""
    row = f"fpa-{policy}"
    document = scenario(chain("gate"), {"name": row, "step_size": 0.4, "ticks": 60})
    summary = pcsim.simulate(document).summary
    found = summary["ticks_to_convergence"]
    assert found["predicted"] == found["ticks"] is not None


@pytest.mark.parametrize("op", ["gate", "centred", "picked"])
def test_costs_are_those_of_the_row(op):
    """None is free, and what a row says it multiplies is counted."""
    for name in ("fpa", "il"):
        task = make_task(chain(op), name, "delay")
        without = make_task(chain("identity") if op != "picked" else chain("picked"), name, "delay")
        plain, update = tick_work(task), update_work(task)
        assert min(plain.elementwise, plain.bytes, plain.messages, update.elementwise, update.products) > 0
        assert plain.messages >= tick_work(without).messages
    plan = plan_of(pcsim.load(scenario(chain(op), "il")))
    assert op in {step["op"] for step in plan["steps"]}
    assert min(plan["memory"]["total"], plan["traffic_per_tick"]["value messages"]) > 0


def test_multiply_adds_of_a_row_are_counted():
    task = make_task(chain("gate"), "fpa", "delay")
    assert update_work(task).products >= update_work(make_task(chain("identity"), "fpa")).products + 2 * 3 * 4 * 3


def test_feedback_is_of_parameters_alone(engine):
    """A mask, drawn for the batch, is no weight: its sign is not what is sent back."""
    vertices = {
        "x": {"op": "input", "shape": [6]},
        "h": {"op": "affine", "units": 6, "inputs": ["x"]},
        "d": {"op": "dropout", "rate": 0.5, "inputs": ["h"], "feedback": "sign"},
        "y": {"op": "batch_norm", "statistics": "frozen", "epsilon": 0.0, "inputs": ["d"], "feedback": "sign"},
    }
    task = make_task({"vertices": vertices}, rule("il", step_size=0.1), ticks=4, away=1.0)
    scale = {"y.weight": np.array([2.0, -2.0, 0.5, -0.5, 3.0, 4.0])}
    task = replace(task, parameters={**task.parameters, **scale}, buffers={"y.running_variance": np.full(6, 0.25)})
    run = run_task(engine, task)
    sent = run.errors["y"] * np.sign(scale["y.weight"]) / 0.5
    np.testing.assert_allclose(run.seen["error message"]["d->y"], sent, rtol=1e-13)
    mask = draws_of(task)["d"]["mask"]
    np.testing.assert_allclose(run.seen["error message"]["h->d"], run.errors["d"] * mask, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("row", ["il", "fpa", "incremental", "zil"])
def test_feedback_of_what_many_share_and_of_populations(row):
    """Ten users of one weight, and a population with delays: with signs as feedback, as ``actors`` has it."""
    affine = {"op": "affine", "units": 3, "activation": "tanh", "params": {"weight": "W"}, "feedback": "sign"}
    names = ["x", *(f"h{number}" for number in range(10))]
    vertices = {"x": {"op": "input", "shape": [3]}}
    vertices |= {post: {**affine, "inputs": [pre]} for pre, post in pairwise(names)}
    degree = {"rule": "fixed_in_degree", "degree": 2}
    vertices["p"] = {"op": "projection", "units": 5, "connect": degree, "inputs": ["h9"],
                     "delays": {"uniform": [0, 3]}, "activation": "tanh", "feedback": "sign"}  # fmt: skip
    vertices["y"] = {"op": "gate", "inputs": ["p", "p"], "feedback": "sign"}
    document = {"vertices": vertices, "parameters": {"W": {"shape": [3, 3]}}}
    for name in ENGINES:
        if name not in ("actors", "cupy"):
            for form in ("none", "delay"):
                assert_agree(opened(name), make_task(document, tame(row), form, ticks=16, away=0.3))


def test_what_changes_parameters_within_a_run_is_refused_where_predictions_are_fixed():
    """Jacobians stay as they were at tick 0: of which weights a message is would be no one's to say."""
    for name in ("fpa", "bp"):
        with pytest.raises(
            InputError, match="fires: 'third_within' changes parameters within the run, and predictions"
        ):
            replace(RULES[name], fires=FIRINGS["third_within"])


def test_a_view_of_a_parameter_follows_what_it_learns(engine):
    """Where an op returns a view of what it is given, the prediction that shifts are taken from must stay as it was."""
    vertices = {
        "w": {"op": "parameter", "shape": [2, 3]},
        "x": {"op": "input", "shape": [3, 2]},
        "t": {"op": "transpose", "inputs": ["w"], "feedback": "sign"},
        "y": {"op": "add", "inputs": ["t", "x"]},
    }
    task = make_task({"vertices": vertices}, rule("incremental", learning_rate=0.1), ticks=4, away=1.0)
    run = run_task(engine, task)
    assert np.abs(run.parameters["w"][-1] - task.parameters["w"]).max() > 1e-3
    wanted = [task.parameters["w"], *run.parameters["w"][:-1]]
    for tick, value in enumerate(wanted):
        np.testing.assert_allclose(run.seen["prediction"]["t"][tick], np.stack([value.T] * task.batch), rtol=1e-12)


# -- what is refused, and what a run says ---------------------------------------------------------------


def test_whole_numbers_are_whole_in_every_engine(engine):
    """2^24 + 1 has no float32; what is out of range, and what is no source, is refused by name."""
    vertices = {
        "i": {"op": "input", "shape": [2], "format": "whole"},
        "n": {"op": "large", "inputs": ["i"]},
        "y": {"op": "affine", "units": 2, "inputs": ["n"]},
    }
    task = make_task({"vertices": vertices}, "il", dtype="float32", batch=1, ticks=1)
    task.inputs["i"][...] = [[2**24 + 1, 2**24 + 3]]
    session = engine(task)
    assert session.reader("prediction", ["n"])().tolist() == [[[1.0, 3.0]]] or run_task(engine, task).values
    session.advance(0, 1, last=True)
    assert session.reader("prediction", ["n"])().tolist() == [[[1.0, 3.0]]]
    picked = make_task(chain("picked"), "il", ticks=2)
    with pytest.raises(InputError, match=r"inputs.i: no such element of vertex 'new': 4"):
        engine(picked).restart(inputs={"i": np.full(3, 4)})
    graph = chain("picked")
    graph["vertices"]["new"]["inputs"] = ["h", "h"]
    with pytest.raises(InputError, match="no error returns over 'which' of op 'picked': it takes an input, and 'h' m"):
        graph_from(graph)


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "cupy"])
def test_a_scenario_uses_them_all(name, tmp_path):
    """As a document, with everything recorded and measured; the manifest says what worked out each vertex."""
    opened(name)
    graph = chain("gate", feedback="sign")
    graph["vertices"] |= {"c": {"op": "centred", "inputs": ["g"]}}
    graph["vertices"]["y"]["inputs"] = ["c"]
    record = [{"what": ["value", "error", "energy", "norm", "divergence", "message", "update"]}]
    for row in ("il-third", "fpa-late_arrival", "il-third_within", "zil-after_level"):
        document = scenario(graph, {"name": row, "ticks": 9}, loss="smooth_absolute", level="delay") | {
            "record": record, "measure": None, "engine": name}  # fmt: skip
        run = pcsim.simulate({key: value for key, value in document.items() if value is not None})
        wanted = pcsim.simulate(document | {"engine": "actors", "measure": []})
        for parameter, update in wanted.updates.items():
            np.testing.assert_allclose(run.updates[parameter], update, rtol=1e-10, atol=1e-13)
        assert run.manifest["status"] == "done"
        assert run.summary["energy"]["last"] > 0
