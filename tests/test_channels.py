"""Messages that are late by chance, lost, quantised or held back, and vertices that do not act at every tick."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import PER_TICK, VALUE_RULES, Features, make_task, random_document, run_task

import pcsim
from pcsim.engines import open_engine
from pcsim.engines.ensembles import alone, together
from pcsim.engines.transmission import extra_ticks, lost, quantised, stream_of
from pcsim.errors import InputError
from pcsim.graph import Graph, graph_from
from pcsim.graph.channels import Acts, Channel
from pcsim.graph.crossings import crossings, latest, with_channels
from pcsim.rules import rule
from pcsim.run.ledger import ledger_of
from pcsim.run.numbers import Numbers

STEADY = (
    "tanh",
    "sigmoid",
    "softplus",
    "softmax",
    "affine",
    "weighted_sum",
    "add",
    "concat",
    "mean",
    "conv",
    "projection",
)


def noisy(graph: Graph, seed: int, *, exact: bool = False) -> Graph:
    """Return a graph with random channels on about half of its edges; ``exact``: such as roundings cannot decide."""
    rng = np.random.default_rng(seed)

    def channel() -> Channel | None:
        if rng.random() < 0.4:
            return None
        how = None if exact else rng.choice([None, 8, 4, "ternary", "sign"])
        threshold = None if exact else rng.choice([None, 0.0, 1e-2])
        return Channel(int(rng.integers(0, 3)), float(rng.choice([0.0, 0.2])), how, threshold)

    edges = {
        edge.name: (channel(), channel()) for edge in graph.edges if graph.vertices[edge.pre].op.role == "function"
    }
    acts = {name: Acts(int(rng.integers(1, 4)), 0, 0.7) for name in graph.active if rng.random() < 0.3}
    return with_channels(graph, edges, acts)


def chain(depth: int = 3, **edge: object) -> dict[str, object]:
    """Return a chain of layers whose inner edges are as ``edge`` says."""
    vertices: dict[str, object] = {"x": {"op": "input", "shape": [3]}}
    for level in range(1, depth + 1):
        pre = "x" if level == 1 else {"from": f"h{level - 1}", **edge}
        vertices[f"h{level}"] = {"op": "affine", "units": 3, "activation": "tanh", "inputs": [pre]}
    return {"vertices": vertices | {"y": {"op": "affine", "units": 2, "inputs": [{"from": f"h{depth}", **edge}]}}}


def scenario(graph: dict[str, object], **more: object) -> pcsim.Scenario:
    return pcsim.load({
        "graph": graph, "inputs": {"x": {"normal": [0, 1]}}, "targets": {"y": {"normal": [0, 1]}}, "batch": 4,
        "rule": {"name": "il", "step_size": 0.2, "ticks": 60}, **more,
    })  # fmt: skip


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([*VALUE_RULES, "alm"]))
def test_engines_agree_with_actors_tick_by_tick(seed: int, row: str) -> None:
    graph = noisy(graph_from(random_document(seed, Features(size=6, ops=STEADY))), seed, exact=True)
    task = make_task(graph, row, ticks=12)
    names = ("numpy",) if row == "alm" else ("numpy", "numba")
    actors = run_task(open_engine("actors"), task)
    for name in names:
        found = run_task(open_engine(name), task)
        for what in PER_TICK:
            for key, series in actors.seen[what].items():
                size = max(1.0, float(np.abs(series).max(initial=0.0)))
                np.testing.assert_allclose(found.seen[what][key], series, rtol=0, atol=1e-9 * size, err_msg=key)


def test_quantised_and_sparse_messages_are_the_same_in_all_engines(engine) -> None:
    edge = {"jitter": 2, "loss": {"error": 0.1}, "quantise": 8, "threshold": 1e-3}
    task = scenario(chain(**edge), acts={"h2": {"every": 3}, "h3": {"chance": 0.5}}).task(keep_values=True)
    actors, found = run_task(open_engine("actors"), task), run_task(engine, task)
    for what in PER_TICK:
        for key, series in actors.seen[what].items():
            np.testing.assert_allclose(found.seen[what][key], series, rtol=0, atol=1e-12)
    for count in ("value sent", "error sent", "value lost", "error lost"):
        kind = count.partition(" ")[0]
        edges = [name for name, way in crossings(task.graph) if way == kind]
        assert (found.session.reader(count, edges)() == actors.session.reader(count, edges)()).all()
    again = run_task(engine, task)
    assert all((again.errors[name] == found.errors[name]).all() for name in found.errors)


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from(list(VALUE_RULES)))
def test_threshold_zero_is_bit_identical_to_dense(seed: int, row: str) -> None:
    """A zero may have the other sign."""
    graph = graph_from(random_document(seed, Features(size=6, ops=STEADY)))
    sparse = with_channels(graph, {"*->*": (Channel(threshold=0.0), Channel(threshold=0.0))}, {}) if any(
        graph.vertices[edge.pre].op.role == "function" for edge in graph.edges) else graph  # fmt: skip
    for name in ("actors", "numpy"):
        dense, found = (run_task(open_engine(name), make_task(each, row, ticks=10)) for each in (graph, sparse))
        for what in PER_TICK:
            for key, series in dense.seen[what].items():
                assert (found.seen[what][key] + 0.0).tobytes() == (series + 0.0).tobytes(), (name, key)
        assert all(
            (found.learnt[key] + 0.0).tobytes() == (update + 0.0).tobytes() for key, update in dense.learnt.items()
        )


def test_a_message_arrives_when_the_draw_says_or_not_at_all(engine) -> None:
    """Held against the definition: the newest that has come, of those that are not lost."""
    task = scenario(chain(delay=1, jitter=3, loss=0.3)).task(keep_values=True)
    found = run_task(engine, task)
    edge = task.graph.edge("h2->h3")
    key = "h3[0] value"
    stream = stream_of(task, key, None)
    held = found.values["h2"][0]
    best = -1
    for tick in range(task.ticks):
        for sent in range(tick + 1):
            here = sent + edge.value_delay + int(extra_ticks(stream, 3, sent))
            if here == tick and not lost(stream, 0.3, sent) and sent > best:
                best, held = sent, found.values["h2"][sent]
        np.testing.assert_array_equal(found.seen["value message"]["h2->h3"][tick], held)
    assert best > 0


def test_a_vertex_sends_and_moves_only_at_its_ticks(engine) -> None:
    task = scenario(chain(), acts={"h2": {"every": 4, "offset": 1}}).task(keep_values=True)
    found = run_task(engine, task)
    moved = [tick for tick in range(1, 60) if (found.values["h2"][tick] != found.values["h2"][tick - 1]).any()]
    assert {(tick - 2) % 4 for tick in moved} == {0}
    for messages in (found.seen["error message"]["h1->h2"], found.seen["value message"]["h2->h3"]):
        came = [tick for tick in range(1, 60) if (messages[tick] != messages[tick - 1]).any()]
        assert {tick % 4 for tick in came} == {1}


def test_errors_are_zero_before_the_light_cone_whatever_the_channels(engine) -> None:
    edge = {"jitter": 2, "loss": 0.2, "quantise": 4}
    found = run_task(engine, scenario(chain(5, **edge)).task())
    for level in range(1, 6):
        assert not found.errors[f"h{level}"][: 6 - level].any()


@pytest.mark.parametrize("how", [8, 4, 2, "ternary", "sign"])
def test_quantised_numbers(how) -> None:
    content = np.random.default_rng(0).normal(size=(3, 2, 50))
    content[0, 0] = 0
    found = quantised(np, how, content)
    steps = {"ternary": 1, "sign": 1}.get(how) or 2 ** (how - 1) - 1
    assert not found[0, 0].any()
    for row in found.reshape(6, 50)[1:]:
        assert len(np.unique(np.abs(row[row != 0]))) <= steps
    if how != "sign":
        scale = np.abs(content).max(axis=-1, keepdims=True) / steps
        assert (np.abs(found - content) <= scale / 2 * (1 + 1e-12)).all()


def test_draws_are_uniform_and_depend_on_seed_edge_and_tick_alone() -> None:
    task = scenario(chain()).task()
    stream, other = stream_of(task, "a", None), stream_of(task, "b", None)
    ticks = np.arange(20_000)
    counts = np.bincount(extra_ticks(stream, 3, ticks)) / 20_000
    assert np.abs(counts - 0.25).max() < 0.012
    assert abs(lost(stream, 0.05, ticks).mean() - 0.05) < 0.005
    both = (extra_ticks(stream, 3, ticks) == 0) & (extra_ticks(other, 3, ticks) == 0)
    assert abs(both.mean() - 1 / 16) < 0.008
    assert stream == stream_of(replace(task, ticks=7), "a", None) != stream_of(task, "a", 1)


def test_a_run_that_is_taken_up_is_the_same_run(engine, tmp_path) -> None:
    edge = {"delay": 1, "jitter": 2, "loss": 0.2, "threshold": 1e-3, "quantise": 8}
    given = scenario(chain(**edge), acts={"h2": {"chance": 0.5}}, record=[{"what": "error"}])
    task = given.task()
    whole = run_task(engine, task)
    for other in ("actors", "numpy"):
        first, second = open_engine(other)(task), engine(task)
        first.advance(0, 20, last=False)
        second.load(first.snapshot())
        second.advance(20, 60, last=True)
        for name, update in whole.learnt.items():
            np.testing.assert_allclose(second.updates()[name], update, rtol=0, atol=1e-12)
    pcsim.simulate(given, engine="numpy", until=25, out=tmp_path / "a")
    on, through = pcsim.simulate(given, resume=tmp_path / "a"), pcsim.simulate(given, engine="numpy")
    assert (on.series("error", "h1").values == through.series("error", "h1").values).all()
    assert on.summary["traffic"] == through.summary["traffic"]


def test_runs_side_by_side_draw_as_runs_alone() -> None:
    edge = {"jitter": 2, "loss": 0.2}
    tasks = [scenario(chain(**edge), acts={"h2": {"chance": 0.5}}, seed=seed).task() for seed in range(3)]
    tasks = [replace(tasks[0], seed=task.seed) for task in tasks]
    beside = together(tasks, open_engine("numpy"))
    beside.clock.advance(0, 60, last=True)
    ended = [member.updates()["h1.weight"] for member in beside.members]
    for task, update in zip(tasks, ended, strict=True):
        one = alone(task, open_engine("numpy"))
        one.clock.advance(0, 60, last=True)
        assert (one.clock.updates()["h1.weight"] == update).all()
    assert not (ended[0] == ended[1]).all()


def test_samples_do_not_see_each_other() -> None:
    edge = {"jitter": 1, "loss": 0.2, "quantise": 4, "threshold": 1e-3}
    task = scenario(chain(**edge)).task()
    first = {key: {name: array[:1] for name, array in getattr(task, key).items()} for key in ("inputs", "targets")}
    whole = run_task(open_engine("actors"), task)
    one = run_task(open_engine("actors"), replace(task, batch=1, **first))
    for name, series in one.errors.items():
        np.testing.assert_allclose(series[:, 0], whole.errors[name][:, 0], rtol=0, atol=1e-12)


def test_loss_and_jitter_leave_the_fixed_point_where_it_is() -> None:
    rest = {"rule": {"name": "il", "step_size": 0.4, "ticks": 500}}
    channels = {"channels": {"*->*": {"jitter": 2, "loss": 0.1}}, "acts": {"h*": {"chance": 0.5}}}
    dense = run_task(open_engine("numpy"), scenario(chain(), **rest).task(), ("error",)).learnt
    task = scenario(chain(), **rest, **channels).task()
    beside = together([replace(task, seed=seed) for seed in range(5)], open_engine("numpy"))
    beside.clock.advance(0, 500, last=True)
    for member in beside.members:
        for name, update in dense.items():
            np.testing.assert_allclose(member.updates()[name], update, rtol=0, atol=1e-9)


def fan_in(jitter: int) -> pcsim.Scenario:
    """Return ten vertices that feed one sum, at three quarters of the largest stable step size, 2/11."""
    vertices: dict[str, object] = {"x": {"op": "input", "shape": [1]}}
    vertices |= {f"h{place}": {"op": "affine", "units": 1, "inputs": ["x"]} for place in range(10)}
    vertices["y"] = {"op": "add", "inputs": [f"h{place}" for place in range(10)]}
    data = {"inputs": {"x": 1.0}, "targets": {"y": 3.0}, "channels": {"*->*": {"jitter": jitter}}}
    return pcsim.load({
        "graph": {"vertices": vertices}, **data, "rule": {"name": "il", "step_size": 1.5 / 11, "ticks": 300},
    })  # fmt: skip


def test_a_counterexample_late_messages_can_undo_a_contraction() -> None:
    """With every message delivered, steps below 2/11 contract; jitter makes three quarters of that too large."""
    still, late = (run_task(open_engine("numpy"), fan_in(jitter).task(), ("error",)).errors["h0"] for jitter in (0, 2))
    assert np.abs(still[-1] - still[-50]).max() < 1e-9
    assert np.abs(late[-50:]).max() > 10 * np.abs(still[-1]).max()


def test_a_counterexample_what_is_lost_is_not_said_again() -> None:
    """A unit that sends only changes falls silent as it comes to rest: what is lost then stays wrong."""
    rest = {"rule": {"name": "il", "step_size": 0.4, "ticks": 400}}
    dense = run_task(open_engine("numpy"), scenario(chain(), **rest).task(), ("error",)).errors["h1"][-1]
    ends = {}
    for threshold in (None, 1e-9):
        channels = {"*->*": {"loss": 0.3, **({} if threshold is None else {"threshold": threshold})}}
        found = run_task(open_engine("numpy"), scenario(chain(), **rest, channels=channels).task(), ("error",))
        ends[threshold] = np.abs(found.errors["h1"][-1] - dense).max()
    assert ends[None] < 1e-9
    assert ends[1e-9] > 1e-9


def test_channels_of_a_scenario_and_of_its_graph_are_the_same() -> None:
    edge = {"delay": 1, "jitter": 1, "loss": {"error": 0.1}, "quantise": {"value": 8}, "threshold": 1e-4}
    inside = scenario(chain(**edge)).levelled
    outside = scenario(chain(delay=1), channels={"h*->*": {k: v for k, v in edge.items() if k != "delay"}}).levelled
    assert inside == outside
    assert inside.has_channels
    assert Graph.from_networkx(inside.to_networkx()) == inside
    named = with_channels(inside, {}, {"h1": Acts(3, 1)})
    assert Graph.from_networkx(named.to_networkx()) == named
    assert latest(inside, inside.edge("h1->h2"), "error") == 1 + 1 + 6


def test_nested_graphs_keep_their_channels(tmp_path) -> None:
    (tmp_path / "cell.json").write_text(json.dumps(chain(2, jitter=1)))
    outer = {"vertices": {
        "x": {"op": "input", "shape": [3]},
        "a": {"op": "affine", "units": 3, "inputs": ["x"]},
        "cell": {"use": "cell.json", "inputs": {"x": {"from": "a", "loss": 0.1}}},
    }}  # fmt: skip
    data = {"inputs": {"x": 1.0}, "targets": {"cell.y": 1.0}, "rule": "il"}
    found = pcsim.load({"graph": outer, **data}, folder=tmp_path).graph
    assert found.edge("cell.h1->cell.h2").value_channel == Channel(jitter=1)
    assert found.edge("a->cell.h1").error_channel == Channel(loss=0.1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"channels": {"h9->*": {"loss": 0.1}}}, "no edge from a vertex that has errors is named 'h9->*'"),
        ({"acts": {"x": {"every": 2}}}, "no vertex that has errors is named 'x'"),
        ({"channels": {"*->*": {"loss": 1.5}}}, "less than 1"),
        ({"channels": {"*->*": {"quantise": "septenary"}}}, "ternary"),
        ({"channels": {"*->*": {"jiter": 1}}}, "did you mean 'jitter'?"),
        ({"channels": {"*->*": {"loss": 0.1}}, "rule": "epc"}, "sweeps the whole graph"),
        ({"channels": {"*->*": {"loss": 0.1}}, "rule": "fpa", "solve": "closed_form"}, "h1->h2"),
        ({"channels": {"*->*": {"loss": 0.1}}, "solve": "equilibrium"}, "h1->h2"),
    ],
)
def test_what_cannot_be_is_refused_by_name(more, message) -> None:
    with pytest.raises(InputError, match=message.replace("*", r"\*").replace("?", r"\?")):
        pcsim.simulate(scenario(chain(), **more))


def test_channels_on_edges_from_sources_are_refused() -> None:
    graph = chain()
    graph["vertices"]["h1"]["inputs"] = [{"from": "x", "loss": 0.1}]
    with pytest.raises(InputError, match="what it holds never changes"):
        scenario(graph)


def test_the_ledger_knows_when_a_message_over_a_channel_was_sent(tmp_path) -> None:
    run = pcsim.simulate(scenario(chain(delay=1, jitter=3, loss=0.4)), out=tmp_path / "run")
    inbox = ledger_of(Numbers(run), "h3", 20).inbox
    stream = stream_of(scenario(chain()).task(), "h3[0] value", None)
    come = [tick for tick in range(20) if tick + 1 + extra_ticks(stream, 3, tick) <= 20]
    newest = max(tick for tick in come if not lost(stream, 0.4, tick))
    assert [message.sent for message in inbox if message.edge == "h2->h3"] == [newest]


def test_the_compiled_engine_says_what_ran_instead() -> None:
    session = open_engine("numba")(scenario(chain(jitter=1)).task())
    assert set(session.executed().values()) == {"numpy: an edge has a channel, or a vertex does not act at every tick"}


def test_rules_without_ticks_to_spare_run_with_channels() -> None:
    for name in VALUE_RULES:
        found = pcsim.simulate(scenario(chain(jitter=1, loss=0.1), rule=name))
        assert found.manifest["status"] == "done"
    assert rule("il").moving
