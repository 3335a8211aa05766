"""Training with and without learnt precisions, judged by what sensors would say without noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.learn.feed import splits
from pcsim.learn.metrics import Judge
from pcsim.learn.sessions import Sweeper, engine_for
from pcsim.scenario.reader import load
from pcsim.train import train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pcsim.claims.measured_rows import Row
    from pcsim.learn.training import Training
    from pcsim.scenario.scenario import Scenario


def rows_of_precision_training(scenario: Scenario) -> Iterator[Row]:
    """Yield one row for training with plain precisions, one with learnt ones, of the same seed and samples.

    ``clean_error``: the mean square of predictions less the data set's field ``clean``, over the test samples;
    ``plain_error``: that of the plain rule; ``gain``: how many times smaller the other is; ``margin``: the difference.
    """
    document = scenario.plain
    errors = {}
    for learnt in (False, True):
        own = document if learnt else {**document, "train": {**document["train"], "precision": None}}
        done = train(load(own))
        if done.manifest["status"] == "interrupted":
            raise KeyboardInterrupt
        errors[learnt] = _error(own, done)
        yield {
            "learnt": learnt,
            "plain": int(not learnt),
            "seed": scenario.document.seed,
            "clean_error": errors[learnt],
            "plain_error": errors[False],
            "gain": errors[False] / errors[learnt],
            "margin": errors[False] - errors[learnt],
            **done.summary,
        }


def _error(document: Mapping[str, object], done: Training) -> float:
    """Return the mean square difference from what is without noise."""
    targets = dict(document["targets"])  # type: ignore[call-overload]
    clean = load({**document, "targets": {name: {**entry, "field": "clean"} for name, entry in targets.items()}})
    entry = clean.document.train
    assert entry is not None
    test = splits(clean.sample_reader(), entry)["test"]
    inputs, wanted = test.batch(np.arange(len(test)))
    sweeper = Sweeper(clean, engine_for(clean, None, 1), len(test), Judge(clean.losses()))
    square = []
    for first in range(0, len(test), sweeper.size):
        part = slice(first, first + sweeper.size)
        want = {name: array[part] for name, array in wanted.items()}
        got = sweeper.predictions({name: a[part] for name, a in inputs.items()}, want, done.parameters, done.buffers)
        square += [np.square(got[name] - array, dtype=np.float64).ravel() for name, array in want.items()]
    return float(np.concatenate(square).mean())
