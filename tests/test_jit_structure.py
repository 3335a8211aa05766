"""What rearranges, indexes and contracts, compiled: at every tick as ``actors`` have it, where a kernel suits it."""

from __future__ import annotations

import pytest
from op_cases_structure import STRUCTURE
from strategies import make_task, run_task
from test_engines import assert_equal_runs

pytest.importorskip("numba", reason="the compiled engine needs Numba")

from pcsim.engines import open_engine
from pcsim.engines.jit.kinds import why_no_kernel

NUMBA, ACTORS = open_engine("numba"), open_engine("actors")


def alone(op, shapes, **attributes):
    """Return a graph of one op of inputs that move; what they send and receive is late."""
    vertices = {"p": {"op": op, "inputs": [], **attributes}}
    for number, shape in enumerate(shapes):
        vertices[f"x{number}"] = {"op": "input", "shape": list(shape)}
        vertices[f"b{number}"] = {"op": "parameter", "shape": list(shape)}
        vertices[f"h{number}"] = {"op": "add", "inputs": [f"x{number}", f"b{number}"]}
        vertices["p"]["inputs"].append({"from": f"h{number}", "delay": {"value": number, "error": 1}})
    return {"vertices": {**vertices, "y": {"op": "tanh", "inputs": ["p"]}}}


def without_kernel(session):
    """Return {op: why} of steps without a kernel."""
    steps = session.program.steps
    return {step.op.name: why for step in steps if (why := why_no_kernel(session.arrays, step))}


@pytest.mark.parametrize("case", STRUCTURE, ids=str)
def test_every_quantity_at_every_tick_is_that_of_actors(case):
    task = make_task(alone(case.op, case.shapes, **case.attributes), "il", batch=3, ticks=6, away=1.0)
    assert_equal_runs(run_task(NUMBA, task), run_task(ACTORS, task), 1e-12)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "why"),
    [
        ("pad", ((2, 3),), {"widths": [[1, 0], [0, 2]]}, ""),
        ("pad", ((2, 3),), {"widths": [[1, 0], [0, 2]], "value": 0.5}, "it does more than rearrange and sum elements"),
        ("pad", ((3,),), {"widths": [[3, 3]], "mode": "wrap"}, "it does more than rearrange and sum elements"),
        ("trilu", ((2, 3),), {}, ""),
        ("scatter_add", ((3, 2),), {"indices": [0, 3, 0], "extent": 4}, ""),
        ("gather", ((3, 2),), {"indices": [0, 2, 0]}, ""),
        ("take_along", ((3, 2),), {"indices": [[0, 2], [1, 1]]}, ""),
        ("tile", ((2, 3),), {"repeats": [2, 2]}, ""),
        ("expand", ((2, 1),), {"shape": [2, 3]}, ""),
        ("flip", ((2, 3),), {}, ""),
        ("resize", ((2, 3),), {"size": [4, 3]}, ""),
        ("resize", ((2, 3),), {"size": [4, 3], "mode": "linear"}, "it does more than copy elements"),
    ],
)
def test_what_moves_elements_has_a_kernel(op, shapes, attributes, why):
    session = NUMBA(make_task(alone(op, shapes, **attributes), "il", batch=3, ticks=2))
    assert without_kernel(session) == ({op: why} if why else {})


def test_places_that_are_an_input_are_an_array_call():
    document = alone("gather", ((4, 2),))
    document["vertices"] |= {"i": {"op": "input", "shape": [2], "format": "whole"}}
    document["vertices"]["p"]["inputs"].append("i")
    task = make_task(document, "il", batch=3, ticks=4, away=1.0)
    run = run_task(NUMBA, task)
    assert without_kernel(run.session) == {"gather": "its places are an input"}
    assert_equal_runs(run, run_task(ACTORS, task), 1e-12)
