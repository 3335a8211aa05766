"""ONNX's own tests of its operators: every case of one that pcsim claims passes, or is listed with its reason."""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from model_checks import forward

from pcsim.errors import InputError
from pcsim.models.onnx_control import CONTROL
from pcsim.models.onnx_file import nodes_of, written_out
from pcsim.models.onnx_operators import OPERATORS
from pcsim.models.onnx_reader import from_onnx, is_float

onnx = pytest.importorskip("onnx")

NOT_READ = "operators that are not read"

REASONS = {
    NOT_READ: r"is not among the operators that are read|no operators of ONNX itself",
    "text": r"holds text|makes text",
    "sequences and optional values": r"is a (sequence|optional), expected a tensor|takes a (sequence|tensor), expected",
    "tensors without elements": r"has no elements",
    "random numbers, and behaviour in training": r"draws random numbers|drops numbers at random|training_mode",
    "number formats of a few bits": r"turns numbers into U?(FLOAT|INT)\d+\w* while",
    "whole numbers that are computed": r"computes with whole numbers",
    "outputs of indices": r"its output 1 \('\w+'\) is not among what is read",
    "loops that end by what they compute": r"is computed while the model runs: only what is known",
    "operators as they were before opset 13": r"is read from opset \d+ on",
}
"""Why a case is out of what is claimed: {reason: what the refusal says}."""

INFINITE = "infinite or undefined numbers in the data"
OUTSIDE = {"test_onehot_out_of_range_indices": "an index outside of the classes, which a run names"}

WANTED = (
    "Attention", "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "Einsum", "GRU", "Gather", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "LSTM", "LayerNormalization", "LpPool", "MatMul", "MaxPool",
    "NegativeLogLikelihoodLoss", "RMSNormalization", "RNN", "SoftmaxCrossEntropyLoss", "Split",
)  # fmt: skip

ROUNDING = {"float16": 2.0**-9, "bfloat16": 2.0**-6}
"""Relative tolerance where the expected numbers were worked out in so few bits."""


@dataclass
class Case:
    """One of ONNX's cases: the model, and arrays of its inputs and outputs (None where one is no tensor of numbers)."""

    name: str
    model: object
    inputs: list
    outputs: list
    rtol: float
    atol: float

    @property
    def operators(self):
        return [node.op_type for node in self.model.graph.node]


def array_of(given):
    """Return a tensor as an array; None for text, sequences and optional values."""
    given = onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else given
    if given is None or isinstance(given, list):
        return None
    array = np.asarray(given)
    return None if array.dtype.kind in "OUSc" else array


@pytest.fixture(scope="module")
def cases():
    with warnings.catch_warnings(action="ignore"):
        from onnx.backend.test.loader import load_model_tests

        loaded = load_model_tests(kind="node")
    made = []
    for case in loaded:
        inputs, outputs = ([array_of(each) for each in part] for part in case.data_sets[0])
        made.append(Case(case.name, case.model, inputs, outputs, case.rtol, case.atol))
    return made


def uses(case):
    """Return {input: (row of the operator that takes it, slot)}, also within functions that are written out."""
    found = defaultdict(list)
    for node in nodes_of(written_out(case.model, {*OPERATORS, *CONTROL}).graph):
        for slot, name in enumerate(node.input):
            if node.op_type in OPERATORS:
                found[name].append((OPERATORS[node.op_type], slot))
    return found


def fed(case):
    """Return constants (indices, shapes), parameters (weights), and what is fed: floats, and whole numbers as data."""
    constants, parameters, inputs, taken = {}, {}, {}, uses(case)
    alone = len(case.operators) == 1 and case.operators[0] in OPERATORS
    for info, array in zip(case.model.graph.input, case.inputs, strict=True):
        rows = taken[info.name]
        kind = info.type.tensor_type.elem_type
        if array is None:
            continue
        if any(slot in row.weights for row, slot in rows):
            parameters[info.name] = array
        elif any(slot in row.known for row, slot in rows):
            constants[info.name] = array
        elif is_float(kind) or (alone and all(row.whole and slot not in row.indices for row, slot in rows)):
            inputs[info.name] = array.astype(int) if array.dtype == bool else array
        else:
            constants[info.name] = array
    return constants, parameters, inputs


def run(case):
    """Compare a case with what pcsim makes of it; raises InputError where it is refused."""
    constants, parameters, inputs = fed(case)
    model = from_onnx(case.model, constants=constants, parameters=parameters, batch_axis=None)
    exact = any(array.dtype.kind in "iu" or array.dtype == np.float64 for array in inputs.values())
    with np.errstate(all="ignore"):  # slopes at the end of a domain
        found = forward(model, {name: inputs[name] for name in model.inputs}, "float64" if exact else "float32")
    for got, array in zip(found.values(), case.outputs, strict=True):
        rtol = max(case.rtol, ROUNDING.get(array.dtype.name, 0.0))
        expected = array.astype(np.float64)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=case.atol)


def unbounded(case):
    """Return whether a case feeds or expects numbers that pcsim does not have."""
    arrays = [*fed(case)[2].values(), *(array for array in case.outputs if array is not None)]
    return not all(np.isfinite(array.astype(np.float64)).all() for array in arrays)


def outcome(case):
    """Return ``passed``, or the reason for which a case is not claimed; any other failure is raised."""
    if case.name in OUTSIDE:
        return OUTSIDE[case.name]
    if unbounded(case):
        return INFINITE
    try:
        run(case)
    except InputError as error:
        found = [reason for reason, text in REASONS.items() if re.search(text, str(error))]
        if not found:
            raise
        return found[0]
    return "passed"


def test_every_case_of_an_operator_that_is_claimed_passes_or_is_listed(cases, capsys):
    found, wrong = defaultdict(Counter), []
    for case in cases:
        try:
            result = outcome(case)
        except Exception as error:  # noqa: BLE001 - all that fail are listed
            result = "failed"
            wrong.append(f"{case.name}: {type(error).__name__}: {str(error).strip():.300}")
        found[case.operators[0] if len(case.operators) == 1 else "several nodes"][result] += 1
    assert not wrong, "\n".join(wrong)
    alone = {name: results for name, results in found.items() if name != "several nodes"}
    claimed = [name for name, results in alone.items() if results["passed"] and not results[NOT_READ]]
    counts = sum(found.values(), Counter())
    lines = [f"ONNX: {len(claimed)} of {len(alone)} operators claimed, {counts['passed']} of {len(cases)} cases passed"]
    lines += [f"  {count:4} not claimed: {reason}" for reason, count in counts.most_common() if reason != "passed"]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert set(WANTED) <= set(claimed)
    assert len(claimed) >= 100
