"""How much of backprop's gradient reaches each layer of a very deep net, and what that says of a dispute.

That mu-PC trains residual nets of 128 layers (arXiv 2505.13124) is disputed: its credit is said not to reach the layers
far from the output, so that only a shallow part is trained (128 layers of width 512, 128 ticks, beside 8 iterations of
ePC, arXiv 2505.20137). Here each layer's update is projected on backprop's gradient: its share is
``<update, gradient> / |gradient|^2``, 1 where the layer learns what backprop would have it learn. The first error that
comes to a layer d edges from the output has crossed d vertices that each took gamma of it: it is ``gamma^d`` of
backprop's, at tick d. So after as many ticks as layers no step size at which inference is stable, on a chain about one
half, brings more to layer 1. Every method has the
step size, of those in its row, with which its free energy is lowest in the end.

>>> print(study())                                                                # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import RunError
from pcsim.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Row = dict[str, Any]

REACHED = 0.01
"""The share from which a layer counts as reached."""


@dataclass(frozen=True)
class Method:
    """One way to learn.

    Attributes
    ----------
    mu : the net has the mu parametrisation, else the standard one
    rule : of the scenario; ``ticks`` that are None are those of the study
    steps : step sizes that are tried
    """

    name: str
    mu: bool
    rule: Mapping[str, Any]
    steps: tuple[float, ...] = (1.0,)
    solve: str = "simulate"


METHODS = {
    row.name: row
    for row in (
        Method("sPC", False, {"name": "il", "ticks": None}, (0.05, 0.1, 0.2, 0.3)),
        Method("mu-PC", True, {"name": "il", "ticks": None}, (0.1, 0.2, 0.4, 0.45)),
        Method("mu-PC at equilibrium", True, {"name": "il"}, solve="equilibrium"),
        Method("ePC", True, {"name": "epc", "ticks": 8}, (0.1, 0.25, 0.5, 0.75)),
        Method("PC-ALM", True, {"name": "alm", "ticks": None}, (0.25,)),
        Method("zil", True, {"name": "zil"}),
        Method("backprop", True, {"name": "bp"}),
    )
}
"""The methods that are compared: each is a row."""


def residual_net(depth: int, width: int, *, mu: bool, activation: str = "tanh") -> dict[str, Any]:
    """Return the document of a residual net: ``graphs/mu-residual.yaml``, or ``graphs/standard-residual.yaml``."""
    drawn: dict[str, Any] = {"init": {"weight": {"normal": [0.0, 1.0]}}} if mu else {}

    def layer(pre: str, divisor: int, **more: Any) -> dict[str, Any]:
        return {"op": "residual", "inputs": [pre], **({"divisor": divisor} if mu else {}), **drawn, **more}

    vertices: dict[str, Any] = {"x": {"op": "input", "shape": [64]}, "h1": layer("x", 64, units=width, skip=False)}
    for number in range(2, depth):
        vertices[f"h{number}"] = layer(f"h{number - 1}", width * depth, activation=activation)
    vertices["y"] = layer(f"h{depth - 1}", width * width, units=10, skip=False, activation=activation)
    return {"vertices": vertices, "outputs": ["y"]}


@dataclass(frozen=True)
class Study:
    """What was found.

    Attributes
    ----------
    depth, width, ticks, batch : of the nets and runs
    shares, cosines : {method: (seeds, layers)}, layers from the input on; NaN where a run left its number format
    steps : {method: the step size that was taken}
    parallel : {method: ticks on a clock on which a message crosses one edge a tick}; None where nothing was simulated
    """

    depth: int
    width: int
    ticks: int
    batch: int
    shares: Mapping[str, np.ndarray]
    cosines: Mapping[str, np.ndarray]
    steps: Mapping[str, float]
    parallel: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def layers(self) -> list[int]:
        """The layers of the table: the first, each tenth, and the last."""
        return sorted({1, *range(10, self.depth, 10), self.depth})

    @property
    def rows(self) -> list[Row]:
        """A row for each method and layer of the table: share and cosine, mean and standard deviation over seeds."""
        return [
            {"method": name, "layer": layer, "step_size": self.steps[name], "seeds": len(shares),
             "share": float(shares[:, layer - 1].mean()), "share_std": float(shares[:, layer - 1].std()),
             "cosine": float(self.cosines[name][:, layer - 1].mean())}
            for name, shares in self.shares.items()
            for layer in self.layers
        ]  # fmt: skip

    def reached(self, name: str) -> int:
        """Return how many layers, counted from the output, have at least ``REACHED`` of backprop's gradient."""
        below = np.flatnonzero(~(self.shares[name].mean(axis=0)[::-1] >= REACHED))
        return int(below[0]) if len(below) else self.depth

    @property
    def verdict(self) -> str:
        """What the numbers say of the dispute, in sentences."""
        return " ".join(said for said in (self._of_inference(), self._of_equilibrium(), self._of_errors()) if said)

    def _first(self, name: str) -> str:
        share, cosine = (found[name][:, 0].mean() for found in (self.shares, self.cosines))
        return f"layer 1 has {share:.2g} of it (cosine {cosine:.2f})"

    def _of_inference(self) -> str:
        name = "mu-PC"
        reached, seen = self.reached(name), f"{self.ticks} ticks of mu-PC at step size {self.steps[name]:g}"
        if reached == self.depth:
            return f"The dispute is decided for mu-PC: {seen} bring at least 1 % of backprop's gradient to every layer."
        front = f": gamma^{self.depth - 1}, whatever the weights" if self.ticks == self.depth else ""
        return (
            f"The critics are right about {self.ticks} ticks: {seen} bring at least 1 % of backprop's gradient to the "
            f"last {reached} of {self.depth} layers only, and {self._first(name)}{front}; the standard "
            f"parametrisation reaches {self.reached('sPC')}. Unless an optimiser scales each layer's update up, what "
            "is trained is the part near the output."
        )

    def _of_equilibrium(self) -> str:
        name = "mu-PC at equilibrium"
        if self.reached(name) == self.depth > self.reached("mu-PC"):
            return (
                f"They are wrong about mu-PC as such: where inference comes to rest every layer is reached, and "
                f"{self._first(name)}. Credit is late, not lost."
            )
        return f"At equilibrium mu-PC reaches the last {self.reached(name)} layers; {self._first(name)}."

    def _of_errors(self) -> str:
        clock = self.parallel.get("ePC")
        price = "" if clock is None else f", each a sweep there and back, {clock:,} ticks of messages in all,"
        return (
            f"8 iterations of ePC{price} reach {self.reached('ePC')} layers, and {self._first('ePC')}; PC-ALM in "
            f"{self.ticks} ticks reaches {self.reached('PC-ALM')}; zil and backprop reach all, with "
            f"{self.shares['zil'].mean():.6g} of it."
        )

    def __str__(self) -> str:
        head = ["layer", *self.shares]
        cells = [[f"{layer}", *(self._cell(name, layer) for name in self.shares)] for layer in self.layers]
        widths = [max(len(row[column]) for row in [head, *cells]) for column in range(len(head))]
        lines = ["  ".join(text.rjust(size) for text, size in zip(row, widths, strict=True)) for row in [head, *cells]]
        about = (
            f"share of backprop's gradient (cosine), mean over {len(self.shares['zil'])} seeds: {self.depth} layers of "
            f"width {self.width}, {self.ticks} ticks, batch {self.batch}"
        )
        return "\n".join([about, *lines, "", self.verdict])

    def _cell(self, name: str, layer: int) -> str:
        share, cosine = (found[name][:, layer - 1].mean() for found in (self.shares, self.cosines))
        return f"{share:.3g} ({cosine:.2f})"


@dataclass(frozen=True)
class _Ran:
    """One run: share and cosine of each layer, (layers,), the last free energy, and ticks on a clock of messages."""

    share: np.ndarray
    cosine: np.ndarray
    energy: float
    parallel: int | None


def study(
    depth: int = 128,
    width: int = 128,
    ticks: int = 128,
    batch: int = 16,
    seeds: Sequence[int] = (0, 1, 2),
    methods: Sequence[str] = tuple(METHODS),
    progress: Callable[[str], None] | None = None,
) -> Study:
    """Measure how much of backprop's gradient reaches each layer, by every method, on digits.

    Parameters
    ----------
    depth, width : of the residual net; the dispute is about 128 layers of width 512
    ticks : of inference
    batch : samples of each seed; a seed draws weights and samples
    methods : names in ``METHODS``; the verdict needs all of them
    progress : called with what is run next

    Raises RunError where a method leaves the number format at every step size.
    """
    shares, cosines, steps, parallel = {}, {}, {}, {}
    for row in (METHODS[name] for name in methods):
        if progress is not None:
            progress(row.name)
        size, first = _best(row, depth, width, ticks, batch, seeds[0])
        ran = [first, *(_run(row, size, depth, width, ticks, batch, seed) for seed in seeds[1:])]
        shares[row.name] = np.stack([each.share for each in ran])
        cosines[row.name] = np.stack([each.cosine for each in ran])
        steps[row.name], parallel[row.name] = size, first.parallel
    return Study(depth, width, ticks, batch, shares, cosines, steps, parallel)


def _best(row: Method, depth: int, width: int, ticks: int, batch: int, seed: int) -> tuple[float, _Ran]:
    """Return the step size with which the free energy is lowest in the end, and that run."""
    found: dict[float, _Ran] = {}
    for size in row.steps:
        try:
            found[size] = _run(row, size, depth, width, ticks, batch, seed)
        except RunError as error:
            failed = error
    if not found:
        raise failed
    size = min(found, key=lambda each: found[each].energy)
    return size, found[size]


def _run(row: Method, size: float, depth: int, width: int, ticks: int, batch: int, seed: int) -> _Ran:
    rule = {key: ticks if value is None else value for key, value in row.rule.items()}
    document = {
        "graph": residual_net(depth, width, mu=row.mu),
        "inputs": {"x": {"dataset": "digits", "field": "images", "shuffle": True}},
        "targets": {"y": {"dataset": "digits", "field": "one_hot", "shuffle": True}},
        "batch": batch,
        "rule": {**rule, "step_size": size},
        "solve": row.solve,
        "record": [{"what": "energy"}],
        "measure": ["credit", "energy", "parallel_ticks"],
        "seed": seed,
    }
    summary = simulate(document).summary
    parameters = summary["credit"]["parameters"]
    layers = [parameters[f"{name}.weight"] for name in (*(f"h{layer}" for layer in range(1, depth)), "y")]
    share, cosine = (
        np.array([np.nan if each[key] is None else each[key] for each in layers]) for key in ("share", "cosine")
    )
    last = summary["energy"]["last"]
    return _Ran(share, cosine, np.inf if last is None else last, summary["parallel_ticks"]["parallel_ticks"])
