"""The light cone measured by perturbation is the distance map, on many random graphs with random delays.

pytest -m bench tests/bench/test_light_cones_at_length.py -s
"""

from __future__ import annotations

import sys

import pytest
from test_light_cones import random_task

from pcsim.analysis.light_cones import measured_cone
from pcsim.engines import ENGINES, open_engine
from pcsim.errors import InputError
from pcsim.rules import RULES

pytestmark = pytest.mark.bench
GRAPHS = 60


@pytest.mark.parametrize("name", ENGINES)
def test_the_measured_cone_is_the_distance_map_on_many_graphs(name):
    try:
        start = open_engine(name)
    except InputError as error:
        pytest.skip(str(error))
    cones = bits = 0
    for seed in range(GRAPHS):
        for rule in (row for row in RULES.values() if row.dynamics in ENGINES[name].dynamics):
            task = random_task(seed, rule.name)
            for vertex in (*task.graph.active, "x0"):
                cone = measured_cone(task, start, vertex)
                assert (cone.outside, cone.late) == ([], []), (seed, rule.name, vertex)
                cones, bits = cones + 1, bits + cone.differs.size
    sys.stdout.write(f"\n{name}: {cones:,} cones on {GRAPHS} graphs, {bits:,} states compared, none outside or late\n")
