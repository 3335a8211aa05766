"""Backprop through time of the LSTM, with PyTorch's own cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from backprops import EXACT
from scans import torch_with_threads

from pcsim.bench.baselines import Baseline, Candidate
from pcsim.bench.family_documents import GATES

if TYPE_CHECKING:
    from pcsim.engines import Task

OF_TORCH = {"weight_ih_l0": "W", "weight_hh_l0": "U", "bias_ih_l0": "b", "bias_hh_l0": "c"}


def torch_lstm(task: Task) -> Candidate:
    """torch.nn.LSTM over all steps, a linear read-out of the last."""
    torch, given = torch_with_threads(), task.parameters
    joined = {name: np.concatenate([given[f"{part}_{gate}"] for gate in GATES]) for name, part in OF_TORCH.items()}
    units, inputs = given["W_i"].shape
    kind = getattr(torch, str(task.dtype))
    cell, out = torch.nn.LSTM(inputs, units, dtype=kind), torch.nn.Linear(units, len(given["y.weight"]), dtype=kind)
    tensor: Any = torch.tensor
    cell.load_state_dict({name: tensor(value) for name, value in joined.items()})
    out.load_state_dict({slot: tensor(given[f"y.{slot}"]) for slot in ("weight", "bias")})
    steps = sum(name.startswith("x") for name in task.inputs)
    x, target = tensor(np.stack([task.inputs[f"x{step}"] for step in range(1, steps + 1)])), tensor(task.targets["y"])
    leaves = {**dict(cell.named_parameters()), **{f"y.{slot}": value for slot, value in out.named_parameters()}}
    found: list[Any] = []

    def run() -> None:
        loss = -0.5 * ((target - out(cell(x)[0][-1])) ** 2).sum()  # its gradient is the descent direction
        found[:] = torch.autograd.grad(loss, list(leaves.values()))

    def read() -> dict[str, np.ndarray]:
        arrays = dict(zip(leaves, (gradient.numpy() for gradient in found), strict=True))
        parts = {name: np.split(arrays[name], len(GATES)) for name in OF_TORCH}
        gates = {
            f"{OF_TORCH[name]}_{gate}": part for name in parts for gate, part in zip(GATES, parts[name], strict=True)
        }
        return gates | {name: array for name, array in arrays.items() if name.startswith("y.")}

    return Candidate(lambda: None, run, read)


CELL = ("theta_inp", "theta_f", "theta_c", "theta_o")
"""The weights of ``graphs/lstm.yaml`` in the order of PyTorch's cell: input, forget, candidate, output."""


def torch_lstm_cells(scenario: Any) -> Candidate:
    """torch.nn.LSTMCell step by step over ``graphs/lstm.yaml``, one read-out of all steps: forward, loss, backward."""
    torch, given = torch_with_threads(), scenario.parameters()
    tensor: Any = torch.tensor
    units, joined = given["theta_f"].shape[0], np.concatenate([given[name] for name in CELL])
    cell = torch.nn.LSTMCell(joined.shape[1] - units, units, bias=False)
    out = torch.nn.Linear(units, len(given["theta_y"]), bias=False)
    cell.load_state_dict({"weight_hh": tensor(joined[:, :units]), "weight_ih": tensor(joined[:, units:])})
    out.load_state_dict({"weight": tensor(given["theta_y"])})
    inputs, targets = scenario.inputs(), scenario.targets()
    x = tensor(np.stack([inputs[f"x{step}"] for step in range(1, len(targets) + 1)]))
    target = tensor(np.stack([targets[f"step{step}.y"] for step in range(1, len(targets) + 1)]))
    leaves = [cell.weight_hh, cell.weight_ih, out.weight]
    found: list[Any] = []

    def run() -> None:
        h = c = x.new_zeros(x.shape[1], units)
        states = []
        for step in x:
            h, c = cell(step, (h, c))
            states.append(h)
        loss = -0.5 * ((target - torch.sigmoid(out(torch.stack(states)))) ** 2).sum()
        found[:] = torch.autograd.grad(loss, leaves)

    def read() -> dict[str, np.ndarray]:
        hidden, inner, outer = (gradient.numpy() for gradient in found)
        parts = np.split(np.concatenate([hidden, inner], axis=1), len(CELL))
        return dict(zip(CELL, parts, strict=True)) | {"theta_y": outer}

    return Candidate(lambda: None, run, read)


BASELINES = (Baseline("PyTorch LSTM backprop", "update", ("lstm",), EXACT, torch_lstm, needs=("torch",)),)
