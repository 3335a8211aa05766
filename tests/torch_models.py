"""Modules of PyTorch that others made, or in their spirit, with data for them, and what autograd finds in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: importing its modules is skipped")
nn = torch.nn
torch.set_num_threads(2)

OF_TORCHVISION = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor a, Tensor b, float c, SymInt d, SymInt e, int f, bool g) -> Tensor",
    "qroi_align(Tensor a, Tensor b, float c, SymInt d, SymInt e, int f, bool g) -> Tensor",
    "roi_pool(Tensor a, Tensor b, float c, SymInt d, SymInt e) -> (Tensor, Tensor)",
    "ps_roi_align(Tensor a, Tensor b, float c, SymInt d, SymInt e, int f) -> (Tensor, Tensor)",
    "ps_roi_pool(Tensor a, Tensor b, float c, SymInt d, SymInt e) -> (Tensor, Tensor)",
    "deform_conv2d(Tensor[] a) -> Tensor",
)


def torchvision_models():
    """Return the package's models, also where its compiled operators do not load: none here needs them."""
    global LIBRARY
    if LIBRARY is None and not hasattr(torch.ops.torchvision, "nms"):
        LIBRARY = torch.library.Library("torchvision", "DEF")
        for signature in OF_TORCHVISION:
            LIBRARY.define(signature)
    return pytest.importorskip("torchvision.models", reason="torchvision is not installed")


LIBRARY = None
"""What the package would find in its compiled part: the library that defines it must stay."""


@dataclass
class Example:
    """A module, its inputs with a batch, and the batch axes of inputs and outputs."""

    module: Any
    inputs: tuple[Any, ...]
    axis: int = 0
    output_axes: tuple[int, ...] = (0,)

    @property
    def batch(self):
        return self.inputs[0].shape[self.axis]

    def run(self):
        """Return the outputs of the module, as a list."""
        found = self.module(*self.inputs)
        return leaves(found)


def leaves(found):
    """Return the tensors that a module returns, in order."""
    if isinstance(found, torch.Tensor):
        return [found]
    return [each for part in (found.values() if isinstance(found, dict) else found) for each in leaves(part)]


def batch_first(tensor, axis, batch):
    """Return an array (batch, numbers of a sample)."""
    return np.moveaxis(tensor.detach().numpy(), axis, 0).reshape(batch, -1)


# -- in the spirit of the surveys --------------------------------------------------------------------------


class SkipMLP(nn.Module):
    """A perceptron with skips, one of them into a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.gain = nn.Parameter(torch.ones(3) * 1.5)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        k = torch.sigmoid(self.twice(h))
        k = torch.tanh(self.twice(k)) + h
        return self.last(k) * self.gain


class Branches(nn.Module):
    """Two inputs, three outputs, one of which feeds another; changes in place and a constant buffer."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.both = nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(6, 2)
        self.register_buffer("offset", torch.arange(3.0) / 3)

    def forward(self, a, b):
        left = self.left(a) + self.offset
        left.tanh_()
        right = torch.relu(self.right(b)).clone()
        right[:, 1] = left[:, 0]
        joined = self.both(torch.cat([left, right], dim=-1))
        return {"joined": joined, "parts": (left, joined.softmax(-1).square().sum(-1, keepdim=True))}


class GPT(nn.Module):
    """An embedding, one block with causal attention, and an output head tied to the embedding."""

    def __init__(self, tokens=7, width=8, length=5, heads=2):
        super().__init__()
        self.heads = heads
        self.embedding, self.position = nn.Embedding(tokens, width), nn.Parameter(torch.randn(length, width) / 3)
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 16), nn.Linear(16, width)
        self.norm3, self.head = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("mask", torch.tril(torch.ones(length, length)))

    def forward(self, tokens):
        x = self.embedding(tokens) + self.position
        batch, length, width = x.shape
        joined = self.qkv(self.norm1(x))
        parts = (joined[..., start : start + width] for start in range(0, 3 * width, width))
        q, k, v = (each.view(batch, length, self.heads, -1).transpose(1, 2) for each in parts)
        scores = q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5
        shares = scores.masked_fill(self.mask == 0, float("-inf")).softmax(-1)
        x = x + self.out((shares @ v).transpose(1, 2).reshape(batch, length, width))
        x = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x))


class LastStep(nn.Module):
    """A recurrent layer of which the last output alone is read: many to one."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.read = layer, nn.Linear(4, 2)

    def forward(self, x):
        return self.read(self.layer(x)[0][:, -1])


# -- examples, small enough for a test ---------------------------------------------------------------------


def resnet18(size=64, batch=4):
    return Example(torchvision_models().resnet18(num_classes=4), (torch.randn(batch, 3, size, size),))


def small_vit():
    model = torchvision_models().VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=3
    )
    nn.init.normal_(model.heads.head.weight)  # the package starts it at zero, so that no gradient gets past it
    return Example(model.eval(), (torch.randn(2, 3, 8, 8),))


def encoder(*, norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=norm_first)
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    for weight in stack.parameters():  # layers are copies of each other
        nn.init.normal_(weight, std=0.3)
    return Example(stack.eval(), (torch.randn(2, 4, 8),))


def recurrent(kind, **options):
    layer = kind(3, 4, **options)
    first, states = options.get("batch_first", False), 2 if kind is nn.LSTM else 1
    shape = (2, 5, 3) if first else (5, 2, 3)
    return Example(layer, (torch.randn(shape),), 0 if first else 1, (0 if first else 1, *[1] * states))


def small_resnet():
    """Blocks of ResNet-18, with fewer channels: the batch's statistics, the last of a single pixel."""
    block = torchvision_models().resnet.BasicBlock
    down = nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6))
    layers = [nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), block(4, 4), block(4, 6, 2, down)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    return Example(model, (torch.randn(3, 3, 4, 4),))


def frozen_mobilenet(size, batch, **options):
    """Running statistics that are not those that the package starts with."""
    model = torchvision_models().mobilenet_v2(num_classes=4, **options)
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(4, 3, size, size))
    return Example(model.eval(), (torch.randn(batch, 3, size, size),))


def small_vgg():
    model = torchvision_models().vgg
    features = model.make_layers([4, "M", 6, 6, "M"])
    return Example(nn.Sequential(features, nn.Flatten(), nn.Linear(24, 3)), (torch.randn(2, 3, 8, 8),))


def mlp():
    return Example(
        nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2)), (torch.randn(3, 4),)
    )


QUICK = {
    "mlp with skips": lambda: Example(SkipMLP(), (torch.randn(3, 5),)),
    "branches": lambda: Example(Branches(), (torch.randn(3, 4), torch.randn(3, 2)), 0, (0, 0, 0)),
    "gpt": lambda: Example(GPT(), (torch.randint(0, 7, (2, 5)),)),
    "rnn": lambda: recurrent(nn.RNN),
    "lstm": lambda: recurrent(nn.LSTM, batch_first=True),
    "lstm, 2 layers": lambda: recurrent(nn.LSTM, num_layers=2),
    "lstm, both ways": lambda: recurrent(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True),
    "gru": lambda: recurrent(nn.GRU),
    "gru, 2 layers both ways": lambda: recurrent(nn.GRU, num_layers=2, bidirectional=True, batch_first=True),
    "lstm, many to one": lambda: Example(LastStep(nn.LSTM(3, 4, batch_first=True)), (torch.randn(2, 5, 3),)),
    "encoder, norm first": lambda: encoder(norm_first=True),
    "encoder, norm last": lambda: encoder(norm_first=False),
    "rnn, many to one": lambda: Example(LastStep(nn.RNN(3, 4, batch_first=True)), (torch.randn(2, 5, 3),)),
    "mlp": mlp,
    "small vgg": small_vgg,
    "small resnet": small_resnet,
    "small mobilenet, frozen": lambda: frozen_mobilenet(
        16, 2, inverted_residual_setting=[[1, 8, 1, 1], [4, 8, 2, 2]], width_mult=0.5
    ),
    "vit": small_vit,
}
SLOW = {
    "resnet18": resnet18,
    "resnet18, frozen": lambda: Example(resnet18().module.eval(), resnet18().inputs),
    "mobilenet_v2, frozen": lambda: frozen_mobilenet(32, 2),
    "vgg11": lambda: Example(torchvision_models().vgg11(num_classes=4).eval(), (torch.randn(2, 3, 32, 32),)),
}


def example(name):
    """Return an example, the same each time."""
    torch.manual_seed(4)
    return (QUICK | SLOW)[name]()
