"""Tasks whose samples are drawn, as many as are asked for, and whose answers are known.

Sample i depends on the seed, the settings and i alone. Products are worked out for blocks of one size, so that no bit
of a sample depends on how many are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import pi
from typing import TYPE_CHECKING

import numpy as np

from pcsim.ops.attributes import above_zero, natural, non_negative, positive, takes
from pcsim.ops.op import Attribute
from pcsim.scenario.datasets.dataset import Dataset, Draw, Field, Given, Opening, Samples
from pcsim.scenario.datasets.text_corpus import rows_of_codes

if TYPE_CHECKING:
    from typing import Any

    from pcsim.arrays import Shape

Array = np.ndarray
Arrays = dict[str, Array]
Task = Callable[[Given, Opening, int], Arrays]

BLOCK = 256
"""Samples that are worked out at once."""


def _open(shapes: Callable[[Given], dict[str, Shape]], task: Task, given: Given, opening: Opening) -> Samples:
    draw = Draw(lambda count: task(given, opening, BLOCK * -(-count // BLOCK)))
    return Samples(None, {name: Field(shape, partial(draw.take, name)) for name, shape in shapes(given).items()})


# -- regression --------------------------------------------------------------------------------------------


def _network(given: Given, opening: Opening) -> list[Array]:
    """Return the weights of the network, drawn with variance 1/fan-in."""
    sizes = [given["features"], *[given["width"]] * given["depth"], given["outputs"]]
    return [
        opening.fixed(f"weight {layer}").normal(0.0, before**-0.5, (before, after))
        for layer, (before, after) in enumerate(pairwise(sizes))
    ]


def _answers(weights: list[Array], block: Array) -> Array:
    for weight in weights[:-1]:
        block = np.tanh(block @ weight)
    return np.asarray(block @ weights[-1])


def _of_network(given: Given, opening: Opening, count: int) -> Arrays:
    inputs = opening.drawn("inputs").normal(size=(count, given["features"]))
    weights = _network(given, opening)
    clean = np.concatenate([_answers(weights, block) for block in np.split(inputs, count // BLOCK)])
    noise = given["noise"] * opening.drawn("noise").normal(size=clean.shape)
    return {"inputs": inputs, "targets": clean + noise, "clean": clean}


def _heteroscedastic(given: Given, opening: Opening, count: int) -> Arrays:
    inputs = opening.drawn("inputs").uniform(size=(count, 1))
    mean, deviation = 2 * np.sin(2 * pi * inputs), given["noise"] * (0.5 + inputs)
    targets = mean + deviation * opening.drawn("noise").normal(size=mean.shape)
    return {"inputs": inputs, "targets": targets, "mean": mean, "deviation": deviation}


def _sensors(given: Given, opening: Opening, count: int) -> Arrays:
    """Return one quantity, seen by sensors whose deviations go from the least to the largest in equal ratios."""
    deviations = np.geomspace(given["least"], given["most"], given["sensors"])
    inputs = opening.drawn("inputs").normal(size=(count, given["features"]))
    weights = _network({**given, "outputs": 1}, opening)
    quantity = np.concatenate([_answers(weights, block) for block in np.split(inputs, count // BLOCK)])
    clean = np.repeat(quantity, given["sensors"], axis=1)
    noise = deviations * opening.drawn("noise").normal(size=clean.shape)
    return {"inputs": inputs, "targets": clean + noise, "clean": clean}


RANDOM_NETWORK = Dataset(
    "teacher", "regression on a random network: tanh layers, weights of variance 1/fan-in", {
        "inputs": "(features,), normal with mean 0 and deviation 1",
        "targets": "(outputs,), what the network answers, with noise",
        "clean": "(outputs,), what it answers without noise: the least loss is that of the noise",
    }, partial(_open, lambda given: {
        "inputs": (given["features"],), "targets": (given["outputs"],), "clean": (given["outputs"],),
    }, _of_network), {
        "features": Attribute(positive, 16, summary="numbers of an input"),
        "width": Attribute(positive, 32, summary="units of a hidden layer of the network"),
        "depth": Attribute(natural, 1, summary="hidden layers of the network"),
        "outputs": Attribute(positive, 1, summary="numbers of a target"),
        "noise": Attribute(non_negative, 0.0, summary="standard deviation of what is added to each target"),
    }, origin="Saad & Solla 1995, On-line learning in soft committee machines",
    paired=("features", "width", "depth", "outputs", "noise"),
)  # fmt: skip
HETEROSCEDASTIC = Dataset(
    "heteroscedastic", "noise that grows with the input: y = 2 sin(2 pi x) + noise (0.5 + x) normal(0, 1)", {
        "inputs": "(1,), x, uniform from 0 to 1",
        "targets": "(1,), y",
        "mean": "(1,), the mean of y at x",
        "deviation": "(1,), the standard deviation of y at x",
    }, partial(_open, lambda _: dict.fromkeys(("inputs", "targets", "mean", "deviation"), (1,)), _heteroscedastic), {
        "noise": Attribute(non_negative, 1.0, summary="factor of the deviation"),
    }, origin="Goldberg, Williams & Bishop 1998, Regression with input-dependent noise", paired=("noise",),
)  # fmt: skip
SENSORS = Dataset(
    "sensors", "one quantity seen by sensors of unequal noise: a random network of the inputs, and noise for each", {
        "inputs": "(features,), normal with mean 0 and deviation 1",
        "targets": "(sensors,), what each sensor says",
        "clean": "(sensors,), the quantity without noise, the same number for each",
    }, partial(_open, lambda given: {
        "inputs": (given["features"],), "targets": (given["sensors"],), "clean": (given["sensors"],),
    }, _sensors), {
        "features": Attribute(positive, 8, summary="numbers of an input"),
        "width": Attribute(positive, 16, summary="units of a hidden layer of the network"),
        "depth": Attribute(natural, 1, summary="hidden layers of the network"),
        "sensors": Attribute(positive, 4, summary="how many sensors"),
        "least": Attribute(above_zero, 0.5, summary="standard deviation of the best sensor"),
        "most": Attribute(above_zero, 8.0, summary="standard deviation of the worst sensor"),
    }, origin="pcsim; heteroscedastic outputs as in Aitken 1935, On least squares and linear combinations",
    paired=("features", "width", "depth", "sensors", "least", "most"),
)  # fmt: skip


# -- memory ------------------------------------------------------------------------------------------------


def _copy(given: Given, opening: Opening, count: int) -> Arrays:
    """Return numbers of symbols: those to keep, blanks of which the last is the signal, then their copies."""
    symbols, length, blanks = (given[key] for key in ("symbols", "length", "blanks"))
    kept = opening.drawn("inputs").integers(0, symbols, (count, length))
    inputs, targets = (np.full((count, 2 * length + blanks), symbols) for _ in range(2))
    inputs[:, :length] = kept
    inputs[:, length + blanks - 1] = symbols + 1
    targets[:, length + blanks :] = kept
    return {"inputs": inputs, "targets": targets}


def _open_copy(given: Given, opening: Opening) -> Samples:
    steps, count = 2 * given["length"] + given["blanks"], given["symbols"] + 2
    numbers = _open(lambda _: dict.fromkeys(("inputs", "targets"), (steps,)), _copy, given, opening)
    fields = {}
    for name, field in numbers.fields.items():
        fields[name] = Field((steps, count), field.raw, partial(rows_of_codes, count=count))
        fields[f"{name.removesuffix('s')}_labels"] = field
    return Samples(None, fields)


@takes(type="integer", minimum=2, maximum=10**6)
def _two_or_more(value: Any) -> int:
    if not 2 <= (found := positive(value)) <= 10**6:
        raise ValueError("expected a whole number from 2 to 1,000,000")
    return found


def _adding(given: Given, opening: Opening, count: int) -> Arrays:
    length, half, rows = given["length"], given["length"] // 2, np.arange(count)
    inputs = np.zeros((count, length, 2))
    inputs[:, :, 0] = opening.drawn("inputs").uniform(size=(count, length))
    marked = [opening.drawn("first").integers(0, half, count), opening.drawn("second").integers(half, length, count)]
    for steps in marked:
        inputs[rows, steps, 1] = 1
    return {"inputs": inputs, "targets": (inputs[rows, marked[0], 0] + inputs[rows, marked[1], 0])[:, None]}


_ONE_HOT = "(2 length + blanks, symbols + 2), one-hot"
COPY = Dataset(
    "copy", "keep symbols in memory: symbols, blanks, a signal, then blanks in which to repeat them", {
        "inputs": f"{_ONE_HOT}: the symbols, then blank (number symbols) and signal (number symbols + 1)",
        "targets": f"{_ONE_HOT}: blank, and the symbols at the end; without memory the loss is length log(symbols)",
        "input_labels": "(2 length + blanks,), the numbers of the inputs",
        "target_labels": "(2 length + blanks,), the numbers of the targets",
    }, _open_copy, {
        "length": Attribute(positive, 10, summary="symbols to keep"),
        "blanks": Attribute(positive, 10, summary="steps from the last symbol to the signal"),
        "symbols": Attribute(positive, 8, summary="how many different symbols"),
    }, origin="Hochreiter & Schmidhuber 1997, Long short-term memory; as in Arjovsky, Shah & Bengio 2016",
    paired=("length", "blanks", "symbols"), rows=("inputs", "targets"),
)  # fmt: skip
ADDING = Dataset(
    "adding", "add two numbers of a long sequence that are marked, one in each half", {
        "inputs": "(length, 2), a number uniform from 0 to 1, and a mark, 1 at two steps",
        "targets": "(1,), the sum of the two; to answer 1 always has a mean square error of 0.167",
    }, partial(_open, lambda given: {"inputs": (given["length"], 2), "targets": (1,)}, _adding), {
        "length": Attribute(_two_or_more, 50, summary="steps of a sequence"),
    }, origin="Hochreiter & Schmidhuber 1997, Long short-term memory; as in Arjovsky, Shah & Bengio 2016",
    paired=("length",),
)  # fmt: skip
