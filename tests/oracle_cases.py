"""Random graphs for the oracle, and what simulation alone says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import pcsim
from pcsim.engines import open_engine

KINDS = ("tanh", "relu", "softmax")
NEAR = 1e-6
"""A run whose errors are this near their limit, and come nearer, gets there."""


def random_document(seed, longest=8):
    """Return a chain or a graph with skips, of one kind of function, with delays of up to ``longest`` ticks."""
    rng = np.random.default_rng(seed)
    kind, chain, delays = KINDS[seed % 3], seed % 2 == 0, rng.random() < 0.7
    names, vertices = ["x"], {"x": {"op": "input", "shape": [3]}}

    def entry(pre):
        if not delays or pre == "x" or rng.random() < 0.5:
            return pre
        return {
            "from": pre,
            "delay": {"value": int(rng.integers(0, longest + 1)), "error": int(rng.integers(0, longest + 1))},
        }

    for place in range(int(rng.integers(2, 6))):
        name = f"h{place}"
        vertices[name] = _layer([entry(names[-1])], "none" if kind == "softmax" else kind, rng)
        if kind == "softmax":
            vertices[f"p{place}"] = {"op": "softmax", "inputs": [name]}
            name = f"p{place}"
        if not chain and len(names) > 2 and rng.random() < 0.7:
            vertices[f"s{place}"] = {"op": "add", "inputs": [name, entry(names[int(rng.integers(1, len(names) - 1))])]}
            name = f"s{place}"
        names.append(name)
    vertices["y"] = _layer([entry(names[-1])], "none", rng)
    document = {"graph": {"vertices": vertices, "outputs": ["y"]}, "batch": 2, "seed": seed}
    data = {"inputs": {"x": rng.normal(size=(2, 3)).tolist()}, "targets": {"y": rng.normal(size=(2, 3)).tolist()}}
    return document | data | {"rule": {"name": "il", "step_size": 0.1, "ticks": 4000}, "record": [], "measure": []}


def _layer(inputs, activation, rng):
    scale = float(rng.uniform(0.4, 1.0))
    init = {
        "weight": {"values": (scale * rng.normal(size=(3, 3))).tolist()},
        "bias": {"values": rng.normal(size=3).tolist()},
    }
    return {"op": "affine", "units": 3, "activation": activation, "inputs": inputs, "init": init}


def task_of(document, step_size, ticks):
    return pcsim.load(document, {"rule.step_size": step_size, "rule.ticks": ticks}).task()


@dataclass
class Simulated:
    """The errors of a run at every tick, (ticks, numbers), by vertex."""

    errors: dict

    def distances(self, limit):
        """Return the greatest relative distance of a vertex from the limit at each tick."""
        whole = np.sqrt(sum(np.sum(each**2) for each in limit.values()))
        sizes = {name: np.linalg.norm(each) for name, each in limit.items()}
        sizes = {name: size if size > 1e-9 * whole else whole for name, size in sizes.items()}
        return np.max([np.linalg.norm(self.errors[name] - each, axis=1) / sizes[name]
                       for name, each in limit.items()], axis=0)  # fmt: skip

    @property
    def last(self):
        return {name: each[-1] for name, each in self.errors.items()}


def simulated(task, engine="numpy"):
    """Run a task; where it overflows, up to there."""
    session, kept = open_engine(engine)(task), {name: [] for name in task.graph.active}
    groups = [(names, session.reader("error", names)) for names in session.layout()]
    with np.errstate(all="ignore"):
        for tick in range(task.ticks):
            try:
                session.predict(tick), session.send(tick), session.deliver(tick)
            except pcsim.RunError:
                break
            for names, read in groups:
                for name, error in zip(names, read(), strict=True):
                    kept[name].append(error.ravel().copy())
            session.move()
    return Simulated({name: np.array(each) for name, each in kept.items()})


def converges(found, limit, ticks):
    """Return whether a run gets to a limit; None where it has come neither near nor away yet."""
    with np.errstate(all="ignore"):
        away = found.distances(limit)
    if len(away) < ticks or not np.isfinite(away[-1]):
        return False
    quarter = len(away) // 4
    early, end = away[quarter : 2 * quarter].max(), away[-quarter:].max()
    if end < NEAR or end < 0.9 * early:
        return True
    return False if (end >= 0.9 * early and end > 1e-3) or end > early else None
