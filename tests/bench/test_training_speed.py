"""An epoch on the 10,000 digits of MNIST, as a user calls it, beside PyTorch's backprop loop as a good user writes it.

Both read the files, shuffle, log loss and accuracy of each batch, and learn the same::

    PCSIM_DATA=... python -m pytest -m bench -s tests/bench/test_training_speed.py
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from scans import torch_with_threads
from test_must_show import duel

import pcsim
from pcsim.bench.baselines import Candidate
from pcsim.graph.initialise import stream

pytestmark = pytest.mark.bench
DATA = Path(os.environ.get("PCSIM_DATA", "../shared/data")) / "mnist10k"
ROOT = Path(__file__).parents[2]
SAMPLES, BATCH, RATE = 8000, 64, 0.1

MLP = {
    "vertices": {
        "x": {"op": "input", "shape": [784]},
        "h1": {"op": "affine", "units": 256, "activation": "tanh", "inputs": ["x"]},
        "h2": {"op": "affine", "units": 256, "activation": "tanh", "inputs": ["h1"]},
        "y": {"op": "affine", "units": 10, "inputs": ["h2"]},
    },
    "outputs": ["y"],
}
CNN = {"file": str(ROOT / "graphs" / "cnn.yaml"), "args": {"channels": 1, "size": 28}}


def document(graph, rule, dtype="float32"):
    return {
        "graph": graph, "loss": "cross_entropy", "batch": BATCH, "rule": rule, "dtype": dtype, "engine": "numba",
        "inputs": {"x": {"dataset": "mnist", "field": "images"}}, "record": [], "measure": [],
        "targets": {"y": {"dataset": "mnist", "field": "one_hot"}}, "level": "delay" if rule == "zil" else "none",
        "train": {"optimiser": {"name": "sgd", "rate": RATE}, "samples": SAMPLES},
    }  # fmt: skip


def mine(graph, rule, dtype="float32"):
    found = {}

    def run():
        found.update(pcsim.train(document(graph, rule, dtype)).parameters)

    return Candidate(lambda: None, run, lambda: found)


def mlp(torch, p, x):
    f = torch.nn.functional
    h = torch.tanh(f.linear(x.flatten(1), p["h1.weight"], p["h1.bias"]))
    return f.linear(torch.tanh(f.linear(h, p["h2.weight"], p["h2.bias"])), p["y.weight"], p["y.bias"])


def cnn(torch, p, x):
    import images

    return images.cnn_forward(torch, p, x[:, None], training=True)


def read(name):
    return gzip.decompress(next(DATA.glob(f"*{name}*")).read_bytes())


def theirs(graph, forward, dtype="float32"):
    torch = torch_with_threads()
    begun = pcsim.load(document(graph, "bp", dtype)).parameters()
    found = {}

    def run():
        kind = getattr(torch, dtype)
        raw = np.frombuffer(read("images"), np.uint8, offset=16).reshape(-1, 28, 28)
        x = torch.from_numpy(raw[:SAMPLES].copy()).to(kind) / 255
        labels = torch.from_numpy(np.frombuffer(read("labels"), np.uint8, offset=8)[:SAMPLES].astype(np.int64))
        p = {name: torch.tensor(np.asarray(array), requires_grad=True) for name, array in begun.items()}
        optimiser = torch.optim.SGD(p.values(), lr=RATE)
        order, log = torch.from_numpy(stream(0, "order", "0").permutation(SAMPLES)), []
        for first in range(0, SAMPLES, BATCH):
            some = order[first : first + BATCH]
            optimiser.zero_grad()
            out = forward(torch, p, x[some])
            loss = torch.nn.functional.cross_entropy(out, labels[some])
            loss.backward()
            optimiser.step()
            log.append((loss.item(), (out.argmax(1) == labels[some]).float().mean().item()))
        found.update({name: value.detach().numpy() for name, value in p.items()})

    return Candidate(lambda: None, run, lambda: found)


def check(graph, forward, rules, tolerance):
    """Both learn the same before they are timed."""
    if not DATA.is_dir():
        pytest.skip(f"no mnist10k in {DATA.parent}: set PCSIM_DATA")
    pytest.importorskip("torch", reason="compared with PyTorch")
    other = theirs(graph, forward, "float64")
    other.run()
    for rule in rules:
        own = mine(graph, rule, "float64")
        own.run()
        for name, wanted in other.read().items():
            assert np.linalg.norm(own.read()[name] - wanted) <= tolerance * np.linalg.norm(wanted), (rule, name)


def test_an_epoch_leaves_the_weights_of_pytorch():
    check(MLP, mlp, ["bp", "zil"], 1e-10)


@pytest.mark.parametrize(("rule", "bound"), [("zil", 1.2), ("bp", 1.0)])
def test_an_epoch_of_an_mlp_costs_what_pytorch_does(rule, bound):
    if not DATA.is_dir():
        pytest.skip(f"no mnist10k in {DATA.parent}: set PCSIM_DATA")
    other = theirs(MLP, mlp)
    assert duel(f"an epoch of an MLP, {rule}", mine(MLP, rule), {"PyTorch backprop": other}, bound) <= bound


def test_an_epoch_of_a_cnn_costs_little_more():
    check(CNN, cnn, ["zil"], 1e-8)
    assert duel("an epoch of a CNN, zil", mine(CNN, "zil"), {"PyTorch backprop": theirs(CNN, cnn)}, 1.5) <= 1.5
