"""Samples kept apart, judged by inference: free values settle where least squares says; wrong names are refused."""

from __future__ import annotations

import numpy as np
import pytest

import pcsim
from pcsim.errors import InputError


def source(**by):
    """Return a linear generative network without bias, whose test samples are judged by inference."""
    rng = np.random.default_rng(0)
    label, image = rng.normal(size=(12, 2)), rng.normal(size=(12, 5))
    return {
        "graph": {"vertices": {
            "label": {"op": "input", "shape": [2]},
            "image": {"op": "affine", "units": 5, "bias": False, "inputs": ["label"]}}},
        "inputs": {"label": {"values": label.tolist()}}, "targets": {"image": {"values": image.tolist()}},
        "batch": 4, "rule": "bp",
        "train": {"samples": 8, "test": {"samples": 4, "by": {"name": "inference", **by}}},
    }  # fmt: skip


def test_a_free_source_settles_at_least_squares():
    document = source(free="label", ticks=800, step_size=0.3)
    done = pcsim.train(document)
    weight = done.parameters["image.weight"]
    label, image = (np.array(document[part][name]["values"])[8:] for part, name in
                    (("inputs", "label"), ("targets", "image")))  # fmt: skip
    inferred = image @ np.linalg.pinv(weight).T
    wanted = 0.5 * ((inferred - label) ** 2).sum(1).mean()
    assert done.summary["test_loss"] == pytest.approx(wanted, rel=1e-9)


def test_free_outputs_of_an_acyclic_graph_are_those_of_a_sweep():
    inferred, swept = pcsim.train(source(ticks=5)), pcsim.train(source(), {"train.test.by": "sweep"})
    assert inferred.summary["test_loss"] == pytest.approx(swept.summary["test_loss"], rel=1e-12)


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ({"free": "lable"}, "neither a source nor an output; did you mean 'label'"),
        ({"name": "sweep", "ticks": 3}, "a sweep infers nothing: leave out ticks"),
        ({"name": "swep"}, "unknown evaluation 'swep'; did you mean 'sweep'"),
    ],
)
def test_what_cannot_be_judged_is_refused(by, words):
    with pytest.raises(InputError, match=words):
        pcsim.train(source(**by))
