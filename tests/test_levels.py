"""Levels, levelling and the light cone, on graphs alone and on what they do to runs."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from math import prod

import numpy as np
import pytest
from hypothesis import given
from strategies import Features, documents, make_task, random_document, run_task

from pcsim.analysis.backprop import backprop
from pcsim.analysis.exactness import blame
from pcsim.analysis.measures import compare
from pcsim.graph import graph_from, level, levels, light_cone, uneven_edges, vertex_levels
from pcsim.graph.level_forms import FORMS
from pcsim.program.lower import lower
from pcsim.rules import rule


def layer(*inputs, units=3, **more):
    return {"op": "affine", "units": units, "activation": "tanh", "inputs": list(inputs), **more}


def chain(depth, **edge):
    """x -> h1 -> ... -> h(depth), every edge but the first with the same delay."""
    vertices = {"x": {"op": "input", "shape": [3]}, "h1": layer("x")}
    for number in range(2, depth + 1):
        vertices[f"h{number}"] = layer({"from": f"h{number - 1}", **edge})
    return {"vertices": vertices}


SKIP = {
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "a": layer("x"),
        "b": layer("a"),
        "c": layer("b"),
        "y": {"op": "add", "inputs": ["c", "a"]},
    }
}
"""a -> y is two ticks shorter than a -> b -> c -> y."""


def all_path_lengths(graph):
    """Return the set of lengths, error delays included, of the paths from each vertex to each output."""

    @cache
    def found(name):
        here = {0} if graph.role(name) == "output" else set()
        return frozenset(here | {n + 1 + e.error_delay for e in graph.outgoing[name] for n in found(e.post)})

    return {name: found(name) for name in graph.vertices if graph.role(name) != "parameter"}


@given(documents(max_size=6))
def test_level_is_the_longest_distance(document):
    graph = graph_from(document)
    found = vertex_levels(graph)
    for name, lengths in all_path_lengths(graph).items():
        assert found[name] == max(lengths, default=None)
    assert levels(graph) == 1 + max((found[name] or 0 for name in graph.active), default=0)


@pytest.mark.parametrize("form", ["delay", "identity"])
@given(document=documents(max_size=6))
def test_levelling_makes_all_paths_equal(form, document):
    """[S] algorithm 2; levels stay, a second levelling changes nothing."""
    graph = graph_from(document)
    even = level(graph, form)
    assert all(len(lengths) <= 1 for lengths in all_path_lengths(even).values())
    assert not uneven_edges(even)
    assert level(even, form) is even
    assert {name: vertex_levels(even)[name] for name in graph.vertices} == vertex_levels(graph)


@given(documents(max_size=6))
def test_delay_form_lengthens_error_delays_to_the_difference_of_levels(document):
    """Delay level(k) - level(i) - 1 (semantics, section 5); the value delay grows by as much."""
    graph = graph_from(document)
    found, even = vertex_levels(graph), level(graph, "delay")
    for edge in graph.edges:
        other = even.edge(edge.name)
        if found[edge.pre] is None or graph.role(edge.pre) == "parameter":
            assert other == edge
        elif found[edge.post] is not None:
            assert other.error_delay == found[edge.pre] - found[edge.post] - 1
        assert other.value_delay - edge.value_delay == other.error_delay - edge.error_delay


def flying(graph):
    """Return the numbers per sample that delays hold, and that identity vertices hold."""
    size = {name: prod(vertex.shape) for name, vertex in graph.vertices.items()}
    return sum(edge.error_delay * size[edge.pre] for edge in graph.edges)


@given(documents(max_size=6))
def test_delay_form_takes_no_more_memory_than_identity_form(document):
    """Semantics, section 5; an identity vertex holds at least the one message that a delay would."""
    graph = graph_from(document)
    delayed, padded = level(graph, "delay"), level(graph, "identity")
    extra = sum(prod(v.shape) for name, v in padded.vertices.items() if name not in graph.vertices)
    assert flying(delayed) <= flying(padded) + extra
    row = rule("fpa")
    used = [sum(lower(form, row).memory(1, 8).values()) for form in (delayed, padded)]
    assert used[0] <= used[1]


@given(documents(max_size=6))
def test_levelling_leaves_the_function_unchanged(document):
    """Errors and gradients of all original vertices are those of the graph as it was, bit for bit."""
    plain = backprop(make_task(document))
    for form in FORMS:
        other = backprop(make_task(document, form=form))
        assert other.loss == plain.loss
        assert all(np.array_equal(other.errors[name], error) for name, error in plain.errors.items())
        assert all(np.array_equal(other.gradients[name], g) for name, g in plain.gradients.items())


def test_unlevelled_skip_differs_from_backprop_and_is_blamed(engine):
    """[S] figure 3, eq. 10-13: one skip edge, and zil is another algorithm."""
    task = make_task(SKIP, "zil", away=0.5)
    found = compare(run_task(engine, task, ()).learnt["a.weight"], backprop(task).gradients["a.weight"])
    assert found["relative"] > 1e-3
    assert blame(task.graph, task.rule) == ["a->y"]


@pytest.mark.parametrize("form", ["delay", "identity"])
def test_levelled_skip_equals_backprop_and_nothing_is_blamed(engine, form):
    task = make_task(SKIP, "zil", form, away=0.5)
    learnt, wanted = run_task(engine, task, ()).learnt, backprop(task).gradients
    assert all(compare(learnt[name], wanted[name])["relative"] < 1e-14 for name in wanted)
    assert blame(task.graph, task.rule) == []


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("delay", [0, 2])
def test_light_cone_is_tight_on_chains(engine, moving, delay):
    """[Z] theorem 1: the error of a vertex is exactly zero until its distance to the output, and not after."""
    task = make_task(chain(5, delay=delay), "il" if moving else "fpa", ticks=16, away=1.0)
    errors, cone = run_task(engine, task, ("error",)).errors, light_cone(task.graph, moving=moving)
    for name, due in cone.items():
        assert due == (5 - int(name[1:])) * (1 + delay)
        assert not errors[name][:due].any()
        assert errors[name][due:].any(axis=(1, 2)).all()


@given(documents(max_size=6))
def test_light_cone_with_fixed_predictions_is_the_shortest_distance(document):
    graph = graph_from(document)
    found = light_cone(graph, moving=False)
    lengths = all_path_lengths(graph)
    assert found == {name: min(lengths[name], default=None) for name in graph.active}


SOONER = {
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "k": layer("x"),
        "i": layer("k"),
        "p": layer("i"),
        "q": layer("p"),
        "r": layer("q"),
        "y": {"op": "add", "inputs": ["r", "k"]},
    }
}
"""k is one edge from the output y; its user i is four edges away, by i -> p -> q -> r -> y."""


def test_moving_predictions_bring_an_error_before_the_shortest_distance(engine):
    """k has moved by tick 1, so the prediction of its user i moves in tick 1, though i is 4 edges from the output.

    So [Z] theorem 1, in the plain form of the contract, holds for fixed predictions only.
    """
    fixed, moving = (make_task(SOONER, row, ticks=6, away=1.0) for row in ("fpa", "il"))
    seen = {
        task.rule.name: run_task(engine, task, ("error",)).errors["i"].any(axis=(1, 2)).tolist()
        for task in (fixed, moving)
    }
    assert seen == {"fpa": [False] * 4 + [True] * 2, "il": [False] + [True] * 5}
    assert light_cone(fixed.graph, moving=False)["i"] == 4
    assert light_cone(moving.graph, moving=True)["i"] == 1


def test_a_source_that_feeds_every_level_breaks_none(engine):
    """What it holds never changes and nothing is sent to it, so that no length of its edges matters."""
    feeds = {f"h{n}": {"op": "add", "inputs": [f"g{n - 1}", "x"]} for n in range(1, 4)}
    steps = {f"g{n}": layer(f"h{n}" if n else "x") for n in range(4)}
    document = {"vertices": {"x": {"op": "input", "shape": [3]}, **feeds, **steps}}
    task = make_task(document, "zil", away=0.5)
    assert blame(task.graph, task.rule) == []
    learnt, wanted = run_task(engine, task, ()).learnt, backprop(task).gradients
    assert all(compare(learnt[name], wanted[name])["relative"] < 1e-14 for name in wanted)


DEAD_END = {
    "vertices": {**chain(5)["vertices"], "dead": {"op": "multiply", "inputs": ["h1", "h4"]}},
    "outputs": ["h5"],
}


@pytest.mark.parametrize("form", ["delay", "identity"])
def test_zil_equals_backprop_beside_a_dead_end(engine, form):
    """``dead`` reaches no output; it errs when h4 has moved and tells h1, which has yet to fire."""
    task = make_task(DEAD_END, "zil", form, away=1.0)
    learnt, wanted = run_task(engine, task, ()).learnt, backprop(task).gradients
    assert all(compare(learnt[name], wanted[name])["relative"] < 1e-12 for name in wanted)


@pytest.mark.parametrize("form", ["delay", "identity"])
def test_levelling_beside_a_dead_end_is_idempotent(form):
    even = level(graph_from(DEAD_END), form)
    assert level(even, form) is even


@pytest.mark.parametrize("form", ["delay", "identity"])
def test_dead_ends_do_not_matter_while_predictions_are_fixed(engine, form):
    task = make_task(DEAD_END, rule("fpa", step_size=1.0), form, away=1.0, ticks=8)
    learnt, wanted = run_task(engine, task, ()).learnt, backprop(task).gradients
    assert all(compare(learnt[name], wanted[name])["relative"] < 1e-12 for name in wanted)


def test_levels_of_random_graphs_are_what_zil_takes():
    for seed in range(20):
        task = make_task(random_document(seed, Features(size=5)), "zil", "delay")
        assert task.ticks == levels(task.graph)


def test_light_cone_of_a_hub_takes_no_time():
    """Every vertex moves and errs once, whatever its fan-out."""
    users = {f"u{n}": {"op": "tanh", "inputs": ["h"]} for n in range(3000)}
    document = {
        "vertices": {
            "x": {"op": "input", "shape": []},
            "h": {"op": "tanh", "inputs": ["x"]},
            **users,
            "y": {"op": "add", "inputs": list(users)},
        }
    }
    graph = graph_from(document)
    began = time.perf_counter()
    cone = light_cone(graph, moving=True)
    assert time.perf_counter() - began < 2.0
    assert (cone["y"], cone["u7"], cone["h"]) == (0, 1, 2)


def test_levels_are_worked_out_once_for_each_graph():
    graph = graph_from({"vertices": {"x": {"op": "input", "shape": [2]}, "y": {"op": "tanh", "inputs": ["x"]}}})
    assert vertex_levels(graph) is vertex_levels(graph)
    longer = replace(graph, edges=tuple(replace(edge, error_delay=3) for edge in graph.edges))
    assert vertex_levels(longer) == {"x": 4, "y": 0} != vertex_levels(graph)
    cone = light_cone(graph, moving=False)
    cone["y"] = 7
    assert light_cone(graph, moving=False) == {"y": 0}
