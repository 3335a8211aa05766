"""Where two runs first differ, what is checked and planned: the same from Python as from the command line."""

from typing import Any

import pytest

import pcsim


def document(target: float = 1.0, **more: Any) -> dict[str, Any]:
    graph = {"formula": "sin(theta * x)", "parameters": {"theta": {"init": {"constant": 2}}}}
    return {"graph": graph, "inputs": {"x": 0.5}, "targets": {"v2": target}, "rule": {"name": "il", "ticks": 6},
            "record": [{"what": ["error", "message"]}], **more}  # fmt: skip


def test_the_first_difference_and_the_largest():
    first, second = pcsim.simulate(document()), pcsim.simulate(document(1.001))
    found = pcsim.compare(first, second)
    assert not found.equal
    assert found.first is not None
    assert (found.first.name, found.first.tick) == ("v2", 0)
    assert found.largest[0].absolute == pytest.approx(0.001, rel=1)
    assert pcsim.compare(first, second, tolerance=0.1).equal
    assert pcsim.compare(first, first).equal
    assert {row.name for row in pcsim.compare(first, second, vertex="v1").rows} == {"v1"}
    assert all(row.tick in (None, 3, 4) for row in pcsim.compare(first, second, tick="3:4").rows)
    with pytest.raises(pcsim.InputError, match="neither run recorded"):
        pcsim.compare(first, second, edge="a->b")


def test_validate_and_plan():
    assert pcsim.validate(document(), document()["graph"]) == []
    assert "rulez" in str(pcsim.validate(document(rulez=1))[0])
    assert pcsim.plan(document())["ticks"] == 6


def test_values_given_to_a_graph_with_delays_are_not_all_of_its_state():
    vertices = {"x": {"op": "input", "shape": []}, "a": {"op": "tanh", "inputs": ["x"]}}
    for delay in (0, 3):
        late = {"op": "tanh", "inputs": [{"from": "a", "delay": delay}]}
        graph = {"vertices": {**vertices, "y": late}, "outputs": ["y"]}
        given = {"graph": graph, "inputs": {"x": 1.0}, "targets": {"y": 1.0}, "rule": {"name": "il", "ticks": 5}}
        for measure in ([], None):
            first = pcsim.simulate({**given, "measure": measure})
            again = pcsim.simulate({**given, "measure": measure}, initial=first.state)
            assert any("resume=" in text for text in again.summary["warnings"]) == (delay > 0)


@pytest.mark.parametrize("criterion", ["settled", "update", "energy", "gradient"])
@pytest.mark.parametrize("ticks", [1, 2, 5])
@pytest.mark.parametrize("engine", ["actors", "numpy", "numba"])
def test_a_run_without_any_error_is_converged_at_0(engine, ticks, criterion):
    chain = {name: {"op": "identity", "inputs": [before]} for name, before in (("a", "x"), ("y", "a"))}
    graph = {"vertices": {"x": {"op": "input", "shape": []}, **chain}, "outputs": ["y"]}
    rule = {"name": "il", "step_size": 0.1, "ticks": ticks}
    given = {"graph": graph, "inputs": {"x": 1.0}, "targets": {"y": 1.0}, "rule": rule, "converged": criterion}
    found = pcsim.simulate(given, engine=engine).summary
    assert found["ticks_to_convergence"]["ticks"] == 0
    assert found["ticks_to_convergence"]["predicted"] in (0, None)
    assert found["warnings"] == []
