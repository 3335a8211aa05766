"""Large graphs: time to lower, time and memory of a tick. Bounds are generous; ratios are measured in one run."""

from __future__ import annotations

import gc
import time
import tracemalloc
from math import prod

import numpy as np
import pytest
from strategies import make_task

from pcsim.graph import graph_from
from pcsim.program.lower import lower
from pcsim.rules import rule

DEPTH, WIDTH = 1000, 16


@pytest.fixture(scope="module")
def chain():
    """A chain of 1,000 affine vertices of width 16."""
    vertices = {"x": {"op": "input", "shape": [WIDTH]}}
    for number in range(1, DEPTH + 1):
        pre = "x" if number == 1 else f"h{number - 1}"
        vertices[f"h{number}"] = {"op": "affine", "units": WIDTH, "inputs": [pre]}
    return graph_from({"vertices": vertices})


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_a_thousand_vertices_lower_in_two_seconds(chain):
    assert min(seconds(lambda: lower(chain, rule("fpa"))) for _ in range(2)) < 2.0


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_a_tick_takes_less_than_ten_times_its_matrix_product(chain, numpy_engine, batch):
    """A tick of fixed predictions is one product W^T eps per vertex: all of them at once, as one stacked product.

    The fastest of interleaved repeats are compared: what else the machine does only ever adds.
    """
    task = make_task(chain, rule("fpa", step_size=0.5), ticks=100, batch=batch)
    session = numpy_engine(task)
    weights = np.stack([task.parameters[f"h{n}.weight"] for n in range(1, DEPTH + 1)])
    errors = np.random.default_rng(0).normal(size=(DEPTH, batch, WIDTH))
    out = np.empty_like(errors)
    pairs = [
        (seconds(lambda tick=tick: play(session, tick)), seconds(lambda: np.matmul(errors, weights, out=out)))
        for tick in range(25)
    ]
    assert min(tick for tick, _ in pairs) < 10 * min(product for _, product in pairs)


def play(session, tick, *, last=False):
    session.predict(tick)
    session.send(tick)
    session.learn(tick, last=last)
    session.move()


def state(task):
    """Return the bytes of parameters and what they learn, of value, prediction and error units, and of inputs."""
    units = sum(prod(task.graph.vertices[name].shape) for name in task.graph.active)
    learnt = 2 * sum(value.size for value in task.parameters.values())
    numbers = 3 * units * task.batch + learnt + sum(value.size for value in task.inputs.values())
    return numbers * task.dtype.itemsize


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize(("row", "times"), [("fpa", 2), ("il", 3)])
def test_memory_stays_within_a_few_times_the_state(chain, numpy_engine, row, times, batch):
    """Starting, ticking and learning (the program and its index arrays included), above what the task itself holds.

    Moving predictions keep the feedforward values beside the deviation, and messages beside what they add up to.
    """
    task = make_task(chain, rule(row, step_size=0.1), ticks=5, batch=batch)
    gc.collect()
    tracemalloc.start()
    session = numpy_engine(task)
    for tick in range(4):
        play(session, tick, last=tick == 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= times * state(task)
