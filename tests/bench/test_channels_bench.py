"""A thousand runs with late and lost messages, and a hundred graphs whose delays are learnt.

pytest -m bench tests/bench/test_channels_bench.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_delay_learning import assert_learnt_delays_make_zil_backprop

import pcsim
from pcsim.analysis.spectrum import largest_eigenvalue
from pcsim.claims.channel_rows import delivered
from pcsim.engines import open_engine
from pcsim.engines.ensembles import together

pytestmark = pytest.mark.bench

MLP = {"file": "graphs/mlp.yaml", "args": {"depth": 3, "width": 6, "classes": 4}}
TICKS = 1200


def network(seed: int, share: float) -> pcsim.Scenario:
    """Return a network whose step size is this share of the largest stable one."""
    given = {"graph": MLP, "inputs": {"h0": {"normal": [0, 1]}}, "targets": {"y": {"normal": [0, 1]}}, "seed": seed,
             "channels": {"*->*": {"jitter": 2, "loss": 0.1}}}  # fmt: skip
    task = pcsim.load({**given, "rule": {"name": "il", "ticks": TICKS}}).task()
    step = share * 2 / largest_eigenvalue(replace(task, graph=delivered(task.graph)))
    return pcsim.load({**given, "rule": {"name": "il", "ticks": TICKS, "step_size": float(step)}})


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_hundred_runs_end_in_the_same_state(seed: int, share: float) -> None:
    task = network(seed, share).task()
    dense = open_engine("numpy")(replace(task, graph=delivered(task.graph)))
    dense.advance(0, TICKS, last=True)
    wanted = {name: np.array(dense.reader("error", [name])()[0]) for name in task.graph.active}
    size = np.sqrt(sum(float((error**2).sum()) for error in wanted.values()))
    beside = together([replace(task, seed=run) for run in range(100)], open_engine("numpy"))
    beside.clock.advance(0, TICKS, last=True)
    far = [
        np.sqrt(
            sum(float(((member.reader("error", [name])()[0] - error) ** 2).sum()) for name, error in wanted.items())
        )
        for member in beside.members
    ]
    assert max(far) < 1e-8 * size


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_a_hundred_random_graphs_learn_their_delays(first: int) -> None:
    for seed in range(first, first + 20):
        assert_learnt_delays_make_zil_backprop(seed)
