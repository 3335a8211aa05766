"""The documents of ``graphs/``: values and what zil learns are those of a PyTorch module of the same weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from graph_documents import DIGITS, drawn_scenario, norm

import pcsim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

torch = pytest.importorskip("torch", reason="PyTorch is not installed: what is compared with it is skipped")
functional = torch.nn.functional
torch.set_num_threads(1)

Tensors = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A document with arguments, and the same network in PyTorch: (parameters, inputs) -> outputs."""

    graph: str
    network: Callable[[Tensors, Tensors], Tensors]
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([self.graph, *(f"{key}={value}" for key, value in self.args.items())])


# -- the same networks in PyTorch ---------------------------------------------------------------------------


def called(module: Any, weights: Tensors, *inputs: Any) -> Any:
    return torch.func.functional_call(module.double(), weights, inputs)


def linear(p: Tensors, name: str, x: Any) -> Any:
    return functional.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def sequence(x: Tensors, name: str = "x") -> Any:
    return torch.stack([x[f"{name}{t}"] for t in range(1, 1 + sum(key.startswith(name) for key in x))], dim=1)


def mlp(p, x):
    h, depth = x["h0"], sum(name.endswith(".weight") for name in p) - 1
    for layer in range(1, depth + 1):
        h = torch.tanh(linear(p, f"h{layer}", h))
    return {"y": linear(p, "y", h)}


def residual(p, x):
    h, depth = torch.tanh(linear(p, "h0", x["x"])), sum(name.startswith("f") for name in p) // 2
    for layer in range(1, depth + 1):
        h = h + torch.tanh(linear(p, f"f{layer}", h))
    return {"y": linear(p, "y", h)}


def rnn(p, x):
    steps, (units, features) = sequence(x), p["W_x"].shape
    module = torch.nn.RNN(features, units, bias=False, batch_first=True)
    _, last = called(module, {"weight_ih_l0": p["W_x"], "weight_hh_l0": p["W_h"]}, steps)
    return {"y": last[0] @ p["y.weight"].T}


def lstm(p, x):
    """Return the outputs of PyTorch's LSTM, whose gates are input, forget, cell, output; v1 is h and then x."""
    steps, units = sequence(x), p["theta_c"].shape[0]
    module = torch.nn.LSTM(steps.shape[-1], units, bias=False, batch_first=True)
    gates = torch.cat([p[f"theta_{gate}"] for gate in ("inp", "f", "c", "o")])
    hidden, _ = called(module, {"weight_hh_l0": gates[:, :units], "weight_ih_l0": gates[:, units:]}, steps)
    outputs = torch.sigmoid(hidden @ p["theta_y"].T)
    return {f"step{t + 1}.y": outputs[:, t] for t in range(steps.shape[1])}


def lstm_cell(p, x):
    units = p["theta_c"].shape[0]
    module = torch.nn.LSTMCell(x["x"].shape[-1], units, bias=False)
    gates = torch.cat([p[f"theta_{gate}"] for gate in ("inp", "f", "c", "o")])
    weights = {"weight_hh": gates[:, :units], "weight_ih": gates[:, units:]}
    return {"y": torch.sigmoid(called(module, weights, x["x"], (x["h"], x["c"]))[0] @ p["theta_y"].T)}


def gru_weights(p):
    pairs = (("weight_ih", "W"), ("weight_hh", "U"))
    return {key: torch.cat([p[f"{letter}_{gate}"] for gate in "rzn"]) for key, letter in pairs}


def gru(p, x):
    steps, (units, features) = sequence(x), p["W_r"].shape
    module = torch.nn.GRU(features, units, bias=False, batch_first=True)
    weights = {
        f"weight_{key}_l0": torch.cat([p[f"{w}_{gate}"] for gate in "rzn"]) for key, w in (("ih", "W"), ("hh", "U"))
    }
    return {"y": linear(p, "y", called(module, weights, steps)[1][0])}


def gru_cell(p, x):
    units, features = p["W_r"].shape
    module = torch.nn.GRUCell(features, units, bias=False)
    weights = {
        f"weight_{key}": torch.cat([p[f"{w}_{gate}"] for gate in "rzn"]) for key, w in (("ih", "W"), ("hh", "U"))
    }
    return {"out": called(module, weights, x["x"], x["h"])}


def gan(p, x):
    g, hidden = x["z"], [name for name in p if name.startswith("g") and name.endswith(".weight")]
    for layer in range(1, len(hidden) + 1):
        g = torch.relu(linear(p, f"g{layer}", g))

    def judged(image):
        for layer in range(1, len(hidden) + 1):
            image = functional.leaky_relu(linear(p, f"D{layer}", image))
        return linear(p, "D", image)

    return {"judged_made": judged(torch.sigmoid(linear(p, "made0", g))), "judged_real": judged(x["real0"])}


def generative(p, x):
    h, depth = x["prior"], sum(name.endswith(".weight") for name in p) - 1
    for layer in range(1, depth + 1):
        h = torch.tanh(linear(p, f"h{layer}", h))
    return {"image": linear(p, "image", h)}


def cnn(p, x):
    h = torch.relu(functional.conv2d(x["x"], p["conv1.weight"], p["conv1.bias"]))
    h = torch.relu(functional.conv2d(functional.max_pool2d(h, 2), p["conv2.weight"], p["conv2.bias"]))
    h = torch.relu(linear(p, "fc1", h.flatten(1)))
    return {"y": linear(p, "y", torch.relu(linear(p, "fc2", h)))}


def alexnet(p, x):
    """Return what the layers of torchvision's AlexNet make, without dropout and adaptive pooling."""
    width, units, classes = (p[name].shape[0] for name in ("conv1.weight", "fc6.weight", "y.weight"))
    nn = torch.nn
    features = [
        nn.Conv2d(x["x"].shape[1], width, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(width, 3 * width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(3 * width, 6 * width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(6 * width, 4 * width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(4 * width, 4 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(p["fc6.weight"].shape[1], units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(),
        nn.Linear(units, classes),
    ]  # fmt: skip
    layers = [number for number, layer in enumerate(features) if list(layer.parameters())]
    names = [*(f"conv{number}" for number in range(1, 6)), "fc6", "fc7", "y"]
    weights = {f"{number}.{part}": p[f"{name}.{part}"] for number, name in zip(layers, names, strict=True)
               for part in ("weight", "bias")}  # fmt: skip
    return {"y": called(nn.Sequential(*features), weights, x["x"])}


def normed(p, name, x):
    return functional.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)


def resnet_block(p, x, prefix="", stride=2):
    h = functional.conv2d(x, p[f"{prefix}conv1.weight"], stride=stride, padding=1)
    h = torch.relu(normed(p, f"{prefix}norm1", h))
    h = normed(p, f"{prefix}norm2", functional.conv2d(h, p[f"{prefix}conv2.weight"], padding=1))
    if f"{prefix}conv3.weight" in p:
        x = normed(p, f"{prefix}norm3", functional.conv2d(x, p[f"{prefix}conv3.weight"], stride=stride))
    return torch.relu(h + x)


def resnet_18(p, x):
    large = p["conv.weight"].shape[-1] == 7
    h = functional.conv2d(x["x"], p["conv.weight"], stride=1 + large, padding=1 + 2 * large)
    h = torch.relu(normed(p, "norm", h))
    h = functional.max_pool2d(h, 3, 2, 1) if large else h
    for stage in range(1, 5):
        h = resnet_block(p, h, f"block{stage}_1.", 1 + (stage > 1))
        h = resnet_block(p, h, f"block{stage}_2.", 1)
    return {"y": linear(p, "y", h.mean(dim=(2, 3)))}


def transformer_block(p, x, prefix="", heads=2, before=True):
    """Return what PyTorch's encoder layer makes; its attention is one function, not built of parts."""
    features = x["x"].shape[-1]
    layer = torch.nn.TransformerEncoderLayer(
        features, heads, p[f"{prefix}hidden.bias"].shape[0], 0.0, "gelu", batch_first=True, norm_first=before
    )
    names = {"self_attn.out_proj": "attention", "linear1": "hidden", "linear2": "forward", "norm1": "norm1",
             "norm2": "norm2"}  # fmt: skip
    weights = {
        f"{own}.{part}": p[f"{prefix}{name}.{part}"] for own, name in names.items() for part in ("weight", "bias")
    }
    for part in ("weight", "bias"):
        stacked = torch.cat([p[f"{prefix}{name}.{part}"] for name in ("query", "key", "value")])
        weights[f"self_attn.in_proj_{part}"] = stacked
    return called(layer, weights, x["x"], x["mask"])


def gpt(p, x):
    blocks, tokens = sum(name.endswith(".hidden.bias") for name in p), x["tokens"].shape[1]
    h = functional.embedding(x["tokens"], p["E"]) + p["P"]
    mask = torch.full((tokens, tokens), float("-inf"), dtype=h.dtype).triu(1)
    for block in range(1, blocks + 1):
        h = transformer_block(p, {"x": h, "mask": mask}, f"block{block}.")
    h = functional.layer_norm(h, h.shape[-1:], p["norm.weight"], p["norm.bias"])
    return {"next": h @ p["E"].T}


def block(before):
    """Return the network of a block; one mask for all samples, as PyTorch's layer takes it."""
    return lambda p, x: {"out": transformer_block(p, {**x, "mask": x["mask"][0]}, before=before)}


def random_dag(vertices, reach, seed):
    def drawn(factor, i, most):
        return factor * (i + 57 * seed) ** 3 % 10007 // 7 % most

    def network(p, x):
        v = {i: torch.tanh(linear(p, f"v{i}", x["x"])) for i in range(1, reach + 1)}
        for i in range(reach + 1, vertices + 1):
            kind, a = drawn(7919, i, 3), drawn(1931, i, reach)
            first, second = v[i - 1 - a], v[i - 1 - (a + 1 + drawn(104729, i, reach - 1)) % reach]
            if kind == 0:
                v[i] = torch.tanh(linear(p, f"v{i}", first))
            else:
                v[i] = first * second if kind == 1 else torch.tanh(first + second)
        return {"y": linear(p, "y", torch.cat([v[i] for i in range(vertices - reach + 1, vertices + 1)], dim=-1))}

    return network


SMALL = {"features": 3, "units": 4}
CASES = [
    Case("mlp", mlp, {"depth": 3, "width": 7}),
    Case("residual", residual, {"width": 6}),
    Case("residual", residual, {"width": 6, "depth": 128}),
    *(Case("rnn", rnn, {**SMALL, "T": length}) for length in (1, 2, 9)),
    Case("lstm-cell", lstm_cell, {"features": 3, "units": 4}),
    *(Case("lstm", lstm, {**SMALL, "outputs": 2, "T": length}) for length in (1, 2, 6, 100)),
    Case("gru-cell", gru_cell, {"features": 3, "units": 4}),
    *(Case("gru", gru, {**SMALL, "T": length}) for length in (1, 2, 7)),
    Case("gan", gan, {"hidden": 5}),
    Case("cnn", cnn, {"size": 16, "units1": 9, "units2": 7}),
    Case("cnn", cnn, DIGITS),
    Case("alexnet", alexnet, {"width": 2, "units": 7}),
    Case("resnet-block", lambda p, x: {"out": resnet_block(p, x["x"])}),
    Case("resnet-18", resnet_18, {"size": 16, "width": 2}),
    Case("resnet-18", resnet_18, {"size": 32, "width": 2, "large": 1}),
    Case("generative", generative, {"depth": 2}),
    Case("transformer-block", block(True), {"tokens": 5}),
    Case("transformer-block", block(False), {"tokens": 5, "before": False}),
    Case("gpt", gpt, {"tokens": 6, "vocabulary": 7}),
    *(Case("random-dag", random_dag(20, 3, seed), {"vertices": 20, "seed": seed}) for seed in range(4)),
]

TABLE_1 = [
    (Case("mlp", mlp, {"depth": 3, "width": 7}), []),
    (Case("rnn", rnn, {**SMALL, "T": 9}), []),
    (Case("cnn", cnn, DIGITS), []),
    (Case("residual", residual, {"width": 6}), [f"h{layer - 1}->h{layer}" for layer in range(1, 6)]),
    (Case("transformer-block", block(True), {"tokens": 5}), ["read->value", "sum1->sum2"]),
    (Case("resnet-18", resnet_18, {"size": 16, "width": 2}), [
        "pool->block1_1.sum",
        *(f"block{stage}_1.out->block{stage}_2.sum" for stage in range(1, 5)),
        *(f"block{stage - 1}_2.out->block{stage}_1.conv3" for stage in range(2, 5)),
    ]),
]  # fmt: skip
"""Networks that are not levelled, and the edge to blame where zil differs from backprop."""


# -- what is compared ---------------------------------------------------------------------------------------


def in_pytorch(case: Case, loaded: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what PyTorch makes of a case, and minus the gradient of half the squared error."""
    theta = {name: torch.tensor(value).requires_grad_() for name, value in loaded.parameters().items()}
    outputs = case.network(theta, {name: torch.tensor(value) for name, value in loaded.inputs().items()})
    targets = loaded.targets()
    assert set(outputs) == set(targets)
    loss = sum(0.5 * ((outputs[name] - torch.tensor(target)) ** 2).sum() for name, target in targets.items())
    slopes = torch.autograd.grad(loss, list(theta.values()), materialize_grads=True)
    found = {name: value.detach().numpy() for name, value in outputs.items()}
    return found, {name: -slope.numpy() for name, slope in zip(theta, slopes, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_forward_values_and_updates_are_those_of_pytorch(case):
    loaded = pcsim.load(drawn_scenario(case.graph, case.args))
    run = pcsim.simulate(loaded)
    outputs, updates = in_pytorch(case, loaded)
    for name, value in outputs.items():
        np.testing.assert_allclose(run.series("prediction", name).values[0], value, rtol=0, atol=1e-10 * norm(value))
    assert set(run.updates) == set(updates)
    scale = max(map(norm, updates.values()))
    for name, update in updates.items():
        assert norm(run.updates[name] - update) <= max(1e-10 * norm(update), 1e-14 * scale), name


@pytest.mark.parametrize(("case", "blamed"), TABLE_1, ids=lambda part: getattr(part, "name", ""))
def test_table_1_without_levelling_some_differ_and_the_edge_to_blame_is_named(case, blamed):
    """Salvatori et al. 2022, Table 1: zil differs from backprop on residual networks and transformers alone."""
    document = drawn_scenario(case.graph, case.args, level="none")
    for name, values in outputs_of(document).items():  # errors that go on stay finite where they are small
        document["targets"][name] = {"values": values + 1e-8 * document["targets"][name]["values"]}
    report = pcsim.simulate(document).summary["divergence"]
    relative = report["updates"]["relative"]
    assert relative > 1e-2 if blamed else relative < 1e-12
    assert sorted(report["blame"]) == sorted(blamed)


def outputs_of(document: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the feedforward values of the outputs."""
    run = pcsim.simulate(document, {"level": "delay"})
    return {name: run.series("prediction", name).values[0] for name in document["targets"]}
