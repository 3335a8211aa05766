"""What is called converged is: within the tolerance of its limit, with nothing on its way that takes it out again."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import opened

import pcsim
from pcsim.analysis.backprop import backprop, rounded_to_zero, scales
from pcsim.analysis.closed import arrivals
from pcsim.analysis.theory import arrived, missing, rounding_floor
from pcsim.analysis.windows import Held, TwoWindows, Windows, window_of
from pcsim.engines import ENGINES

SCALAR = {"op": "input", "shape": []}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of every engine in turn."""
    opened(request.param)
    return str(request.param)


def weighted(*inputs: Any, weight: float = 1.0) -> dict[str, Any]:
    return {"op": "weighted_sum", "bias": False, "inputs": list(inputs), "init": {"weight": {"constant": weight}}}


def late(name: str, value: int = 0, error: int = 0) -> dict[str, Any]:
    return {"from": name, "delay": {"value": value, "error": error}}


def scenario(vertices: dict[str, Any], rule: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a scenario with one input x and one output y."""
    shape = vertices["x"]["shape"]
    inputs = {"x": np.linspace(0.3, 1.1, shape[0]).tolist() if shape else 1.0}
    graph = {"vertices": vertices, "outputs": ["y"]}
    return {"graph": graph, "inputs": inputs, "targets": {"y": 3.0}, "rule": rule, **more}


def verdict(document: dict[str, Any], engine: str) -> dict[str, Any]:
    found: dict[str, Any] = pcsim.simulate(document, engine=engine).summary
    return found


def away(document: dict[str, Any], ticks: int, later: int) -> float:
    """Return how far the errors after so many ticks are from where they are later, relative to these."""
    runs = [pcsim.simulate({**document, "rule": {**document["rule"], "ticks": many}, "record": [{"what": "error"}]})
            for many in (ticks, later)]  # fmt: skip
    names = [name for name in document["graph"]["vertices"] if name != "x"]
    now, then = ([run.series("error", name).values[-1] for name in names] for run in runs)
    return max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(now, then, strict=True) if b.any())


# -- standard inference with delays -------------------------------------------------------------------------


def test_an_oscillation_is_not_converged(engine):
    """h hears three ticks late what it did: at step size 1 it goes from one extreme to the other for ever."""
    vertices = {"x": SCALAR, "h": weighted("x", weight=0.5), "y": weighted(late("h", value=3))}
    found = verdict(scenario(vertices, {"name": "il", "step_size": 1.0, "ticks": 300}, stop="converged"), engine)
    assert found["stop_reason"] == "all 300 ticks done"
    assert found["ticks_to_convergence"]["ticks"] is None
    assert "step size 1 may be too large for these delays" in found["warnings"][0]


@pytest.mark.parametrize(("value", "error"), [(0, 10), (20, 0), (0, 60), (30, 30)])
def test_nothing_that_is_on_its_way_is_forgotten(engine, value, error):
    vertices = {"x": SCALAR, "a": {"op": "identity", "inputs": ["x"]}, "b": {"op": "identity", "inputs": ["a"]},
                "y": {"op": "add", "inputs": ["b", late("a", value, error)]}}  # fmt: skip
    document = scenario(vertices, {"name": "il", "step_size": 0.1, "ticks": 20_000}, stop="converged")
    run = pcsim.simulate(document, engine=engine)
    ticks, stopped = run.summary["ticks_to_convergence"]["ticks"], run.summary["ticks"]
    assert max(value, error) < ticks < stopped < 20_000
    assert away(document, stopped, 20 * stopped) <= 1e-3
    assert away(document, ticks + 1, 20 * stopped) <= 1e-3


def test_a_run_too_short_for_its_delays_says_so(engine):
    vertices = {"x": SCALAR, "a": weighted("x"), "y": weighted(late("a", value=50, error=50))}
    found = verdict(scenario(vertices, {"name": "il", "step_size": 0.1, "ticks": 500}), engine)
    assert found["ticks_to_convergence"]["ticks"] is None
    assert "nothing is known of where it ends: with these delays that takes 1212 ticks" in found["warnings"][0]


@pytest.mark.parametrize("criterion", ["update", "energy"])
def test_small_steps_prove_nothing_while_messages_are_on_their_way(engine, criterion):
    """Both vertices stand still, each at an extreme, until the messages between them arrive."""
    vertices = {"x": SCALAR, "a": {"op": "identity", "inputs": ["x"]},
                "y": {"op": "identity", "inputs": [late("a", error=30)]}}  # fmt: skip
    rule = {"name": "il", "step_size": 0.02, "ticks": 4000}
    stop = {"measure": criterion, "below": 1e-4}
    document = scenario(vertices, rule, stop=stop, converged=criterion)
    run = pcsim.simulate(document, engine=engine)
    assert 31 + 4 * 31 < run.summary["ticks"] < 4000


@pytest.mark.parametrize("criterion", ["update", "energy"])
def test_a_vertex_that_no_error_has_reached_yet_is_not_at_its_limit(engine, criterion):
    """The output is clamped: in the first ticks of a long chain nothing moves but near it, and that hardly."""
    vertices = {"x": SCALAR, "h0": weighted("x")} | {f"h{k}": weighted(f"h{k - 1}") for k in range(1, 12)}
    vertices["y"] = weighted("h11", weight=1e-3)
    document = scenario(
        vertices, {"name": "il", "step_size": 0.1, "ticks": 60}, stop={"measure": criterion, "below": 1}
    )
    assert pcsim.simulate(document, engine=engine).summary["ticks"] == 13


@pytest.mark.parametrize("criterion", ["gradient", "settled", "update", "energy"])
@pytest.mark.parametrize("rule", ["il", "fpa", "zil", "fa-zil", "incremental"])
@pytest.mark.parametrize("delay", [0, 20])
def test_with_no_error_anywhere_there_is_nothing_to_settle(engine, criterion, rule, delay):
    vertices = {"x": SCALAR, "a": {"op": "identity", "inputs": ["x"]},
                "y": {"op": "identity", "inputs": [late("a", delay, delay)]}}  # fmt: skip
    document = {**scenario(vertices, {"name": rule, "ticks": delay + 2}, converged=criterion), "targets": {"y": 1.0}}
    found = verdict(document, engine)
    assert found["ticks_to_convergence"]["ticks"] == found["ticks_to_convergence"]["predicted"] == 0
    assert not [said for said in found["warnings"] if "converged" in said or "late" in said]


def test_a_run_that_begins_elsewhere_has_something_to_settle(engine):
    vertices = {"x": SCALAR, "a": {"op": "identity", "inputs": ["x"]}, "y": {"op": "identity", "inputs": ["a"]}}
    document = scenario(vertices, {"name": "il", "step_size": 0.5, "ticks": 40}, initial="zeros")
    found = verdict({**document, "targets": {"y": 1.0}}, engine)
    assert found["ticks_to_convergence"]["ticks"] == found["ticks_to_convergence"]["predicted"] > 0


@pytest.mark.parametrize(("delay", "known"), [(0, 1), (5, 16)])
def test_a_state_that_does_not_change_at_all_is_at_its_limit(engine, delay, known):
    """The relu is off: no message moves h. This is known once nothing that was sent before is under way."""
    vertices = {"x": SCALAR, "h": weighted("x", weight=-1.0),
                "y": {"op": "relu", "inputs": [late("h", delay, delay)]}}  # fmt: skip
    for ticks in (known, known + 1):
        found = verdict(scenario(vertices, {"name": "il", "step_size": 0.1, "ticks": ticks}), engine)
        assert found["ticks_to_convergence"]["ticks"] == (None if ticks == known else 0)
    stopped = verdict(scenario(vertices, {"name": "il", "step_size": 0.1, "ticks": 900}, stop="converged"), engine)
    assert stopped["ticks"] == known + 1


def test_without_delays_a_window_is_a_tick():
    chain = pcsim.load_graph({"vertices": {"x": SCALAR, "h": weighted("x"), "y": weighted("h")}, "outputs": ["y"]})
    assert window_of(chain, moving=True) == window_of(chain, moving=False) == 1
    vertices = {"x": SCALAR, "h": weighted("x"), "y": weighted(late("h", value=3, error=4))}
    delayed = pcsim.load_graph({"vertices": vertices, "outputs": ["y"]})
    assert window_of(delayed, moving=True) == 4 * 8
    assert window_of(delayed, moving=False) == 4 * 5


# -- windows ------------------------------------------------------------------------------------------------


def shown(series: np.ndarray, window: int) -> list[TwoWindows]:
    """Return what windows show of one vertex with one number."""
    windows = Windows(window, [np.zeros((1, 1))])
    found = [windows.take([np.array([[value]])], np.array([abs(value)])) for value in series]
    return [each for each in found if each is not None]


def test_a_window_of_a_tick_is_the_step_of_that_tick():
    series = 1 + 0.5 ** np.arange(6)
    found = shown(series, 1)
    assert len(found) == 4
    assert found[-1].drift == pytest.approx([0.5**5])
    assert found[-1].left() == pytest.approx([0.5**5 / series[-1]])  # to 1, exactly


@pytest.mark.parametrize("shrinks", [0.8, 0.95])
def test_what_is_left_covers_what_comes(shrinks):
    """Of a swing that dies away around 2, nothing that comes is much further from 2 than was said."""
    t = np.arange(400)
    series = 2 + shrinks**t * np.cos(t)
    for number, each in enumerate(shown(series, 8)):
        begun = (number + 2) * 8
        assert np.abs(series[begun:] - 2).max() / 2 <= 1.2 * each.left()[0] + 1e-15
    assert each.left()[0] < 1e-4


def test_a_swing_that_goes_on_or_grows_is_not_small():
    t = np.arange(200)
    assert all(each.left()[0] > 0.9 for each in shown(1 + np.cos(t * np.pi / 4), 8))
    growing = shown(1 + 1e-6 * 1.1**t * np.cos(t), 8)[2]
    assert growing.left()[0] > 1e3 * np.abs(growing.spread[0])
    assert growing.growth()[0] > 1.5


def test_windows_go_on_from_a_snapshot():
    series = np.random.default_rng(0).normal(size=(40, 1, 3))
    whole, first = Windows(4, [np.zeros((1, 3))]), Windows(4, [np.zeros((1, 3))])
    for values in series[:18]:
        whole.take([values], np.ones(1))
        first.take([values], np.ones(1))
    second = Windows(4, [np.zeros((1, 3))])
    second.load(first.snapshot())
    for values in series[18:]:
        expected, found = (each.take([values], np.ones(1)) for each in (whole, second))
        assert (expected is None) == (found is None)
        if found is not None:
            assert np.array_equal(found.left(), expected.left())


def test_a_criterion_must_hold_throughout_a_window_and_shrink():
    held = Held(2, 1)
    values = [9.0, 8.0, 1.0, 0.5, 0.4, 0.4, 0.4, 0.4, 0.0, 0.0]
    found = taken(held, values)
    assert found[3:5] == [(1.0, True), (0.5, True)]
    assert found[5:8] == [(0.4, False)] * 3  # as large as before: it may swing
    assert found[9] == (0.0, False)
    assert taken(Held(1, 1), values) == [(value, True) for value in values]


def taken(held, values):
    """Return the greatest in the window, and whether it shrinks, at each tick."""
    return [(most.item(), shrinks.item()) for most, shrinks in (held.take(np.array([value])) for value in values)]


def test_what_grows_after_a_greater_transient_does_not_hold():
    held = Held(4, 1)
    series = np.concatenate([np.full(4, 100.0), 1.2 ** np.arange(4)])
    assert not taken(held, series)[-1][1]
    assert taken(Held(4, 1), 0.5 ** np.arange(8))[-1] == (0.5**4, True)


# -- fixed predictions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [None, "converged"])
def test_paths_that_cancel_in_the_end_do_not_cancel_on_the_way(engine, stop):
    """h hears of y at once with a minus, three ticks later with a plus: zero only from then on."""
    vertices = {"x": SCALAR, "w": weighted("x"), "h": {"op": "identity", "inputs": ["w"]},
                "d": {"op": "subtract", "inputs": [late("h", error=3), "h"]},
                "y": {"op": "add", "inputs": ["d", "x"]}}  # fmt: skip
    found = verdict(scenario(vertices, {"name": "fpa", "step_size": 1.0, "ticks": 20}, stop=stop), engine)
    assert found["ticks_to_convergence"]["ticks"] == found["ticks_to_convergence"]["predicted"] == 6


def test_a_run_that_ends_before_late_messages_is_not_converged(engine):
    vertices = {"x": SCALAR, "w": weighted("x"), "h": {"op": "identity", "inputs": ["w"]},
                "d": {"op": "subtract", "inputs": [late("h", error=300), "h"]},
                "y": {"op": "add", "inputs": ["d", "x"]}}  # fmt: skip
    found = verdict(scenario(vertices, {"name": "fpa", "step_size": 1.0, "ticks": 2}), engine)
    assert found["divergence"]["worst_vertex"] == 0
    assert found["ticks_to_convergence"]["ticks"] is None
    assert "what is still on its way can change that" in found["warnings"][0]


def test_a_path_that_no_error_comes_through_does_not_count(engine):
    """The relu is off: what lies behind it has no error, and five levels are three."""
    vertices = {"x": SCALAR, "h1": weighted("x", weight=-1.0), "h2": {"op": "relu", "inputs": ["h1"]},
                "h3": {"op": "identity", "inputs": ["h2"]}, "h4": {"op": "identity", "inputs": ["h3"]},
                "y": {"op": "identity", "inputs": ["h4"]}}  # fmt: skip
    found = verdict(scenario(vertices, {"name": "fpa", "step_size": 0.5, "ticks": 60}), engine)["ticks_to_convergence"]
    assert found["ticks"] == found["predicted"] == 18


def softmax_sum() -> dict[str, Any]:
    weight = [[0.1, 0.2, 0.3], [0.7, -0.4, 0.2], [0.3, 0.9, -0.5]]
    vertices = {"x": {"op": "input", "shape": [3]},
                "h": {"op": "affine", "units": 3, "inputs": ["x"], "init": {"weight": {"values": weight}}},
                "s": {"op": "softmax", "inputs": ["h"]}, "t": {"op": "sum", "inputs": ["s"]},
                "y": weighted("t", weight=0.3)}  # fmt: skip
    return scenario(vertices, {"name": "fpa", "step_size": 0.5, "ticks": 200})


def test_an_error_that_is_rounding_of_zero_is_compared_on_the_scale_of_the_graph(engine):
    """The sum of a softmax is 1: backprop's error behind it is zero, but for rounding."""
    task = pcsim.load(softmax_sum()).task()
    assert rounded_to_zero(task) <= {"h"}
    found = verdict(softmax_sum(), engine)
    assert found["ticks_to_convergence"]["ticks"] == found["ticks_to_convergence"]["predicted"] == 14
    assert set(found["signal_fraction"]) <= {"0", "1", "2", "3"}
    assert found["warnings"] == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_small_error_is_no_rounding(dtype):
    """A chain in which errors shrink a thousandfold at every edge: each is compared with its own size."""
    vertices = {"x": SCALAR, "h0": weighted("x")} | {f"h{k}": weighted(f"h{k - 1}", weight=1e-3) for k in range(1, 8)}
    vertices["y"] = weighted("h7", weight=1e-3)
    task = pcsim.load(scenario(vertices, {"name": "fpa", "step_size": 0.5, "ticks": 9}, dtype=dtype)).task()
    assert not rounded_to_zero(task)
    assert scales(task)["h0"] == pytest.approx(3e-24, rel=1e-6)


@pytest.mark.parametrize("name", ["fpa", "fa-zil"])
def test_norms_are_taken_in_double_precision(engine, name):
    """In float32 the square of an error below 1e-23 is zero; the error is not."""
    size, weight = [2], {"values": [[0.1, 0.0], [0.0, 0.1]]}
    vertices: dict[str, Any] = {"x": {"op": "input", "shape": size}}
    for layer in range(1, 29):
        pre = f"h{layer - 1}" if layer > 1 else "x"
        vertices[f"h{layer}" if layer < 28 else "y"] = {"op": "affine", "units": 2, "bias": False, "inputs": [pre],
                                                        "init": {"weight": weight}}  # fmt: skip
    document = scenario(vertices, {"name": name, "step_size": 1.0, "ticks": 33}, dtype="float32")
    found = verdict(document, engine)
    assert found["ticks_to_convergence"]["ticks"] == found["ticks_to_convergence"]["predicted"] == 27
    assert found["divergence"]["updates"]["relative"] < 1e-5
    assert found["warnings"] == []


# -- step sizes above 1 -------------------------------------------------------------------------------------


def exact_arrivals(hops: int, ticks: int, step_size: float) -> list[list[Fraction]]:
    gamma, rows = Fraction(step_size), [[Fraction(1)] * ticks]
    for _ in range(hops):
        row = [Fraction(0)]
        for before in rows[-1][:-1]:
            row.append((1 - gamma) * row[-1] + gamma * before)
        rows.append(row)
    return rows


@pytest.mark.parametrize(("hops", "step_size"), [(5, 1.25), (20, 1.5), (20, 1.875)])
def test_what_has_arrived_above_step_1_has_twelve_digits(hops, step_size):
    ticks = np.array([0, 1, hops - 1, hops, hops + 1, 2 * hops, 100, 250, 499])
    rows = exact_arrivals(hops, 500, step_size)
    wanted = np.array([float(rows[hops][tick]) for tick in ticks])
    rest = np.array([float(1 - rows[hops][tick]) for tick in ticks])
    assert np.allclose(missing(hops, ticks, step_size), rest, rtol=1e-11, atol=1e-300)
    assert np.allclose(arrived(hops, ticks, step_size), wanted, rtol=1e-11, atol=1e-12)
    for found, row in zip(arrivals(hops, 500, step_size), rows, strict=True):
        assert np.allclose(found, np.array(row, float), rtol=1e-11, atol=1e-12)


def chain(depth: int, step_size: float, dtype: str = "float64", ticks: int = 2000) -> dict[str, Any]:
    vertices = {"x": SCALAR, "h0": weighted("x", weight=1.1)}
    vertices |= {f"h{k}": weighted(f"h{k - 1}", weight=1.1) for k in range(1, depth)}
    vertices["y"] = weighted(f"h{depth - 1}", weight=1.1)
    return scenario(vertices, {"name": "fpa", "step_size": step_size, "ticks": ticks}, dtype=dtype)


@pytest.mark.parametrize(("depth", "step_size", "dtype"), [(16, 1.9, "float64"), (20, 1.5, "float32")])
def test_above_step_1_rounding_has_a_floor_that_is_told(engine, depth, step_size, dtype):
    document = chain(depth, step_size, dtype)
    found = verdict(document, engine)
    floor = rounding_floor(pcsim.load(document).task())
    assert found["ticks_to_convergence"]["predicted"] is None
    assert found["ticks_to_convergence"]["ticks"] is None
    assert 1e-3 < found["divergence"]["worst_vertex"] < floor
    assert "above step size 1 roundings grow on their way" in found["warnings"][0]


def test_the_floor_is_no_excuse_where_it_is_low(engine):
    document = chain(6, 1.5)
    found = verdict(document, engine)
    assert rounding_floor(pcsim.load(document).task()) < 1e-12
    assert found["ticks_to_convergence"]["ticks"] == found["ticks_to_convergence"]["predicted"]
    assert found["warnings"] == []


def test_the_closed_form_has_no_floor():
    found = pcsim.simulate({**chain(20, 1.9, ticks=3000), "solve": "closed_form"}).summary
    assert found["divergence"]["updates"]["relative"] < 1e-12
    assert found["ticks_to_convergence"]["ticks"] == 1086


def test_small_steps_are_no_end_while_parameters_learn(engine):
    """At tick 40 no value moves by more than the tolerance; the error that is learnt from goes on shrinking."""
    vertices = {"x": SCALAR, "h": weighted("x"), "y": weighted("h")}
    rule = {"name": "incremental", "step_size": 0.2, "learning_rate": 0.05}
    document = scenario(vertices, rule, converged="update", tolerance=1e-3)
    early, late = (verdict({**document, "rule": {**rule, "ticks": ticks}}, engine) for ticks in (60, 400))
    assert early["ticks_to_convergence"]["ticks"] is None
    assert any("parameters learn at every tick" in said for said in early["warnings"])
    assert 60 < late["ticks_to_convergence"]["ticks"] < 400
    assert abs(late["energy"]["last"]) < 1e-6


@pytest.mark.parametrize("criterion", ["update", "energy", "settled"])
def test_what_rounding_goes_on_moving_has_come_to_rest(engine, criterion):
    """Long after everything has arrived values still move by their last bits, and these moves do not shrink."""
    vertices = {"x": {"op": "input", "shape": [2]},
                "h": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
                "k": {"op": "affine", "units": 3, "activation": "tanh", "inputs": [late("h", 1, 2)]},
                "y": {"op": "affine", "units": 2, "inputs": [late("k", 2, 1)]}}  # fmt: skip
    rule = {"name": "il", "step_size": 0.2}
    soon, later = (
        verdict(scenario(vertices, {**rule, "ticks": ticks}, converged=criterion), engine)["ticks_to_convergence"]
        for ticks in (800, 4000)
    )
    assert soon["ticks"] == later["ticks"] < 600


@pytest.mark.parametrize("rule", ["il", "fpa"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_run_that_stops_by_signal_leaves_no_vertex_below_the_share(rule, share):
    vertices = {"x0": {"op": "input", "shape": [6]}}
    for number in range(1, 9):
        vertices[f"x{number}"] = {"op": "affine", "units": 6, "activation": "tanh", "inputs": [f"x{number - 1}"]}
    document = {
        "graph": {"vertices": vertices, "outputs": ["x8"]}, "batch": 4, "record": [{"what": "error"}],
        "inputs": {"x0": {"normal": [0, 1]}}, "targets": {"x8": {"uniform": [-0.1, 0.1]}},
        "rule": {"name": rule, "step_size": 0.3, "ticks": 4000},
    }  # fmt: skip
    scenario = pcsim.load({**document, "stop": {"measure": "signal", "below": 1 - share}})
    run, wanted = pcsim.simulate(scenario), backprop(scenario.task()).errors
    errors = {name: run.series("error", name).values for name in wanted}

    def least(tick):
        return min(float(np.sum(errors[name][tick] * g) / np.sum(g * g)) for name, g in wanted.items())

    end = run.summary["ticks"] - 1
    if run.summary["ticks"] < 4000:
        assert least(end) >= share - 1e-12
        assert least(end - 1) < share
    else:
        assert rule == "il"
        assert max(least(tick) for tick in range(0, 4000, 40)) < share
