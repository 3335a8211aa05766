"""Parameters as data: arrays in place, in files and from Python; what is kept with a scenario."""

from __future__ import annotations

import array
import contextlib
import json
import pickle
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pcsim
from pcsim.documents import from_plain, plain
from pcsim.documents.frozen_arrays import FrozenArray, array_of, described, digest_of, frozen_numbers
from pcsim.errors import InputError
from pcsim.graph import graph_from
from pcsim.graph.array_files import read_array, read_arrays

GRAPH = """
pcsim: graph/1
vertices:
  x: {op: input, shape: [3]}
  h: {op: affine, units: 4, inputs: [x]}
  y: {op: affine, units: 2, inputs: [h]}
"""
SCENARIO = """pcsim: scenario/1
graph: {file: graph.yaml}
inputs: {x: 1.0}
targets: {y: 0.0}
rule: fpa
parameters: {file: FILE}
"""


def net(units=2, fan_in=3, **init):
    vertices = {
        "x": {"op": "input", "shape": [fan_in]},
        "y": {"op": "affine", "units": units, "inputs": ["x"], "init": init},
    }
    return {"graph": {"vertices": vertices}, "inputs": {"x": 1.0}, "targets": {"y": 0.0}, "rule": "fpa"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "graph.yaml").write_text(GRAPH)
    return tmp_path


def scenario(folder, file, **overrides):
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO.replace("FILE", file))
    return pcsim.load(path, overrides)


def refused(step, *fragments):
    with pytest.raises(InputError) as caught:
        step()
    for fragment in fragments:
        assert fragment in str(caught.value)
    return caught.value.problems


def safetensors(path, tensors, raw=None, metadata=None):
    """Write a file by hand: {name: (format, shape, bytes)}."""
    header, at = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode() if raw is None else raw
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))
    return path


# -- arrays that never change ----------------------------------------------------------------------------


def test_a_frozen_array_is_its_content():
    array = np.arange(2000.0)
    frozen = FrozenArray(array)
    array[0] = 7
    assert frozen.array[0] == 0
    assert frozen == FrozenArray(np.arange(2000.0))
    assert hash(frozen) == hash(FrozenArray(np.arange(2000.0)))
    assert frozen != FrozenArray(np.arange(2000.0).reshape(2, 1000))
    assert frozen != FrozenArray(np.arange(2000.0, dtype=np.float32))
    assert frozen != FrozenArray(array)
    with pytest.raises(ValueError, match="read-only"):
        frozen.array[0] = 1
    back = pickle.loads(pickle.dumps(frozen))
    assert back == frozen
    assert not back.array.flags.writeable


def test_a_view_that_cannot_be_written_is_copied_where_its_base_can():
    base = np.zeros(3)
    view = base[:]
    view.setflags(write=False)
    frozen = FrozenArray(view)
    base[:] = 1
    assert not frozen.array.any()


def test_digests_tell_names_shapes_formats_and_content():
    array = np.arange(6.0)
    different = [
        {"a": array}, {"b": array}, {"a": array.reshape(2, 3)}, {"a": array.astype(np.float32)}, {"a": -array},
        {"a": array[:3], "b": array[3:]}, {"a": np.zeros(())}, {"a": np.zeros(0)}, {},
    ]  # fmt: skip
    assert len({digest_of(arrays) for arrays in different}) == len(different)
    assert digest_of({"a": array, "b": -array}) == digest_of({"b": -array, "a": array})
    assert digest_of({"a": array.reshape(2, 3).T}) == digest_of({"a": array.reshape(2, 3).T.copy()})


@pytest.mark.parametrize(("numbers", "fragment"), [
    (np.ma.masked_array([1.0, 2.0], [False, True]), "a masked array has no number where it is masked"),
    ([[1], [2, 3]], "expected finite numbers"),
    ("text", "expected finite numbers"),
    ([True], "expected finite numbers"),
    ([np.inf], "expected finite numbers"),
    ({"a": 1}, "expected finite numbers"),
])  # fmt: skip
def test_what_is_no_array_of_finite_numbers_is_refused(numbers, fragment):
    with pytest.raises(ValueError, match=fragment):
        frozen_numbers(numbers)


class ByDLPack:
    """An array that can be had by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_whatever_numpy_reads_is_taken_without_a_copy():
    array = np.arange(2000.0)
    assert np.shares_memory(array_of(array), array)
    assert np.shares_memory(array_of(ByDLPack(array)), array)
    for readable in (array, ByDLPack(array), FrozenArray(array)):
        assert from_plain({"a": readable}).entries["a"].value.value == FrozenArray(array)


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    weights = torch.arange(2000.0)
    loaded = pcsim.load(net(1, 2000, weight={"values": weights[None]}))
    assert loaded.parameters()["y.weight"].tolist() == [weights.tolist()]
    assert loaded.with_parameters({"y.weight": weights[None] + 1}).parameters()["y.weight"][0, 0] == 1
    weights.requires_grad_()
    refused(lambda: pcsim.load(net(1, 2000, weight={"values": weights[None]})), "init.weight.values", "detach")


def test_a_large_array_stays_an_array_and_a_small_one_is_a_list():
    small, large = np.ones(1000), np.ones((1001, 1))
    assert plain(from_plain([small])) == [small.tolist()]
    assert plain(from_plain({"a": large})) == {"a": FrozenArray(large)}
    assert plain(from_plain(large.tolist())) == FrozenArray(large)
    names = list(range(2000))
    assert plain(from_plain(names)) == names
    looped = [1.0]
    looped.append(looped)
    refused(lambda: from_plain(looped), "nested deeper")


def test_what_is_written_out_is_described_by_shape_and_digest():
    large = np.arange(1001.0)
    text = {"shape": [1001], "dtype": "float64", "digest": FrozenArray(large).digest}
    assert described({"a": [FrozenArray(large), (1, 2)], "b": "text"}) == {"a": [text, [1, 2]], "b": "text"}
    assert described(large.tolist()) == text
    assert described(FrozenArray(large[:3])) == [0, 1, 2]
    json.dumps(described({"a": FrozenArray(large)}))


# -- values in place -------------------------------------------------------------------------------------


def test_values_in_place_are_one_array_and_graphs_with_equal_values_are_equal():
    weights = np.random.default_rng(0).normal(size=(50, 40))
    made = [pcsim.load(net(50, 40, weight={"values": values})) for values in (weights, weights.tolist(), weights + 0)]
    graphs = [one.graph for one in made]
    assert graphs[0] == graphs[1] == graphs[2]
    assert len({graph.parameters["y.weight"] for graph in graphs}) == 1
    assert graphs[0] != pcsim.load(net(50, 40, weight={"values": weights + 1})).graph
    assert len({one.digest for one in made}) == 1
    assert made[0].digest != pcsim.load(net(50, 40, weight={"values": -weights})).digest
    for graph in graphs:
        assert isinstance(graph.parameters["y.weight"].init[1], FrozenArray)
        assert np.array_equal(pcsim.Graph.from_networkx(graph.to_networkx()).parameters["y.weight"].init[1], weights)
        assert pcsim.Graph.from_networkx(graph.to_networkx()) == graph
        assert pcsim.load({**net(), "graph": graph, "inputs": {"x": 1.0}}).graph == graph
    assert isinstance(graphs[0].to_networkx().graph["parameters"]["y.weight"]["init"]["values"], np.ndarray)


@pytest.mark.parametrize("values", [[[1, 2, 3], [4, 5, 6]], np.arange(6, dtype=np.float32).reshape(2, 3), 2])
def test_few_values_are_plain_data(values):
    made = pcsim.load(net(weight={"values": values}))
    assert json.loads(json.dumps(made.plain)) == made.plain
    graph = graph_from(net(weight={"values": values})["graph"])
    assert graph == made.graph
    json.dumps(graph.to_networkx().graph)


def test_masked_values_are_refused_by_name():
    for size in (3, 2000):
        masked = np.ma.masked_array(np.ones((1, size)), np.eye(1, size))
        document = net(1, size, weight={"values": masked})
        refused(lambda: pcsim.load(document), "init.weight.values", "masked array")  # noqa: B023
        refused(lambda: graph_from(document["graph"]), "init.weight.values", "masked array")  # noqa: B023
    refused(lambda: pcsim.load({**net(), "inputs": {"x": np.ma.masked_array([1.0], [True])}}), "inputs.x", "masked")
    truths = np.ma.masked_array([True, False], [False, True])
    refused(lambda: pcsim.load({**net(), "targets": {"y": truths}}), "targets.y", "1 of 2 values, the first at [1]")
    deep = {**net(), "graph": {"vertices": {**net()["graph"]["vertices"], "z": {"op": "tanh", "inputs": ["y"]}}}}
    deep["targets"] = {"z": deep["targets"]["y"]}
    refused(
        lambda: pcsim.simulate(deep, initial={"y": np.ma.masked_array([[1.0, 2.0]], [[0, 1]])}), "initial.y", "masked"
    )


def test_arrays_of_every_kind_stand_for_numbers():
    class ByInterface:
        def __init__(self, array):
            self.array = array
            self.interface = array.__array_interface__

        __array_interface__ = property(lambda self: self.interface)

    torch = pytest.importorskip("torch")
    numbers = np.array([0.25, -1.5, 3.0])
    kinds = (
        numbers, torch.from_numpy(numbers), ByDLPack(numbers), ByInterface(numbers), memoryview(numbers),
        array.array("d", numbers), np.ma.masked_array(numbers), np.ma.masked_array(numbers, False),
    )  # fmt: skip
    for one_kind in kinds:
        document = {
            "graph": {
                "parameters": {"b": {"shape": [3], "init": {"values": one_kind}}},
                "vertices": {
                    "x": {"op": "input", "shape": [3]},
                    "y": {"op": "affine", "units": 3, "inputs": ["x"], "params": {"bias": "b"}, "precision": 1.0},
                },
            },
            "inputs": {"x": one_kind},
            "targets": {"y": one_kind},
            "rule": "fpa",
        }
        scenario = pcsim.load(document)
        found = scenario.parameters()["b"], scenario.inputs()["x"][0], scenario.targets()["y"][0]
        again = scenario.with_parameters({"b": one_kind}).parameters()["b"]
        assert all(np.array_equal(one, numbers) for one in (*found, again))


def test_a_manifest_does_not_hold_a_million_numbers(tmp_path):
    weights = np.full((100, 200), 0.125)
    document = {**net(100, 200, weight={"values": weights}), "record": [], "measure": []}
    document["inputs"] = {"x": np.ones((1, 200)).repeat(10, axis=0)}
    run = pcsim.simulate({**document, "batch": 10}, out=tmp_path / "run")
    assert (tmp_path / "run" / "manifest.json").stat().st_size < 10_000
    kept = pcsim.open_run(tmp_path / "run").manifest["scenario"]["graph"]["vertices"]["y"]["init"]["weight"]["values"]
    assert kept == {"shape": [100, 200], "dtype": "float64", "digest": FrozenArray(weights).digest}
    assert run.manifest["scenario"]["inputs"]["x"]["shape"] == [10, 200]
    left_out = run.manifest["scenario"]
    refused(lambda: pcsim.load(left_out), "init.weight.values: these [100, 200] numbers were left out")
    document["inputs"] = left_out["inputs"]
    refused(pcsim.load(document).task, "inputs.x: these [10, 200] numbers were left out")


def test_large_arrays_elsewhere_in_a_document_are_lists_there():
    deviation = np.linspace(1, 2, 1500)
    document = {
        "graph": {
            "args": {"p": [1.0]},
            "vertices": {
                "x": {"op": "input", "shape": [1500]},
                "c": {"op": "constant", "value": deviation},
                "y": {"op": "add", "inputs": ["x", "c"], "precision": deviation},
                "z": {"op": "add", "inputs": ["x", "c"], "precision": "$p"},
            },
        },
        "inputs": {"x": deviation},
        "targets": {"y": 0.0, "z": 0.0},
        "rule": "fpa",
        "sweep": {"rule.step_size": deviation},
    }
    made = pcsim.load(document, {"graph.p": deviation})
    assert made.graph.vertices["y"].precision == made.graph.vertices["z"].precision == tuple(deviation)
    assert made.inputs()["c"].tolist() == [deviation.tolist()]
    assert made.document.sweep == {"rule.step_size": deviation.tolist()}


# -- values in files -------------------------------------------------------------------------------------


def weights():
    rng = np.random.default_rng(1)
    return {"h.weight": rng.normal(size=(4, 3)), "y.bias": rng.normal(size=2)}


def test_parameters_of_an_npz_file(folder):
    np.savez(folder / "w.npz", **weights())
    made = scenario(folder, "w.npz")
    without = pcsim.load(folder / "scenario.yaml", {"parameters": None})
    for name, value in made.parameters().items():
        wanted = weights()[name] if name in weights() else without.parameters()[name]
        assert np.array_equal(value, wanted)
        assert value.dtype == np.float64
    assert list(made.parameters()) == list(without.parameters())
    assert made.parameters_digest == digest_of(made.parameters()) != without.parameters_digest
    assert made.digest != without.digest
    assert made.task().parameters.keys() == made.parameters().keys()
    run = pcsim.simulate(made)
    assert np.array_equal(run.updates["y.bias"], pcsim.gradients(made)["y.bias"])


def test_parameters_of_a_safetensors_file_in_every_format(folder):
    whole = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 1, 2]])
    kinds = {
        "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
        "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    }  # fmt: skip
    for name, kind in kinds.items():
        data = whole.astype(kind).tobytes()
        safetensors(folder / "w.safetensors", {"h.weight": (name, [4, 3], data)}, metadata={"made by": "a test"})
        assert np.array_equal(scenario(folder, "w.safetensors").parameters()["h.weight"], whole), name
        made = scenario(folder, "w.safetensors", dtype="float32").parameters()["h.weight"]
        assert made.dtype == np.float32
        assert np.array_equal(made, whole)
    upper = (whole.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    safetensors(folder / "w.safetensors", {"h.weight": ("BF16", [4, 3], upper)})
    assert np.array_equal(scenario(folder, "w.safetensors").parameters()["h.weight"], whole)


def test_safetensors_as_others_write_them(folder):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(weights(), folder / "w.safetensors")
    for name, value in read_arrays(folder / "w.safetensors").items():
        assert np.array_equal(value, weights()[name])


def test_one_parameter_and_data_of_a_safetensors_file(folder):
    data = np.arange(6.0)
    safetensors(folder / "w.safetensors", {
        "a": ("F64", [2, 3], data.tobytes()), "s": ("F64", [], data[1:2].tobytes()), "none": ("F32", [0, 4], b""),
    })  # fmt: skip
    assert read_array(folder / "w.safetensors", "a").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_array(folder / "w.safetensors", "s").shape == ()
    assert read_array(folder / "w.safetensors", "none").shape == (0, 4)
    file = str(folder / "w.safetensors")
    made = pcsim.load(
        {**net(weight={"file": file, "key": "a"}), "inputs": {"x": {"file": file, "key": "a"}}, "batch": 2}
    )
    assert made.parameters()["y.weight"].tolist() == made.inputs()["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    refused(lambda: read_array(file, "b"), "has no array 'b'")
    refused(lambda: read_array(file, None), "holds a, s, none: say which with 'key'")


def test_what_does_not_fit_is_named_at_the_key(folder):
    np.savez(
        folder / "w.npz", **{"h.wieght": np.ones(3), "h.bias": np.ones(3), "y.bias": [1, np.nan], "y.weight": np.eye(2)}
    )
    problems = refused(
        scenario(folder, "w.npz").task,
        f"{folder / 'scenario.yaml'}:6:20: parameters.file: {folder / 'w.npz'}: there is no parameter 'h.wieght'; did "
        "you mean 'h.weight'?",
        "parameter 'h.bias': has shape [3], expected [4]",
        "parameter 'y.bias': holds numbers that are not finite",
        "parameter 'y.weight': has shape [2, 2], expected [2, 4]",
    )
    assert len(problems) == 4
    refused(scenario(folder, "w.npz").check, "parameters.file", "h.weight")
    refused(scenario(folder, "v.npz").check, "scenario.yaml:6:20: parameters.file: cannot read", "no such file")
    np.savez(folder / "w.npz", **{"y.bias": [1e300, 1]})
    scenario(folder, "w.npz").check()
    refused(scenario(folder, "w.npz", dtype="float32").check, "not finite in float32")
    np.save(folder / "w.npy", np.ones(2))
    refused(scenario(folder, "w.npy").check, "there is no parameter ''")
    inline = {**net(), "parameters": {"file": str(folder / "v.npz")}}
    refused(pcsim.load(inline).task, "parameters.file: cannot read")
    refused(lambda: pcsim.load({**net(), "parameters": {"files": "w.npz"}}), "did you mean 'file'?")
    init = pcsim.load(net(weight={"file": str(folder / "v.npz")}))
    refused(init.task, "graph.vertices.y.init.weight.file: cannot read")
    refused(init.check, "graph.vertices.y.init.weight.file: cannot read")
    replaced = init.with_parameters({"y.weight": np.ones((2, 3))})
    replaced.check()
    replaced.task()


ONE = ("F32", [2], b"\0" * 8)


@pytest.mark.parametrize(("tensors", "raw", "fragment"), [
    ({"a": ("F8_E4M3", [8], b"\0" * 8)}, None, "tensor 'a' has the number format 'F8_E4M3', expected one of F64"),
    ({"a": ("F32", [3], b"\0" * 8)}, None, "tensor 'a' has 8 bytes, which is not what F32 of shape [3] takes"),
    ({"a": ("F32", [-1, -2], b"\0" * 8)}, None, "tensor 'a' has shape [-1, -2]"),
    ({"a": ("F32", [True, 2], b"\0" * 8)}, None, "tensor 'a' has shape [True, 2]"),
    ({"a": ("F32", [10**12, 10**12], b"")}, None, "tensor 'a' has 0 bytes"),
    ({"a": ONE}, b"{", "its header is not valid JSON"),
    ({"a": ONE}, b"\xff", "its header is not valid JSON"),
    ({"a": ONE}, b"[]", "its header is no map of names"),
    ({"a": ONE}, b'{"a": 1}', "tensor 'a' has to have dtype, shape and data_offsets"),
    ({"a": ONE}, b"[" * 100_000, "its header is nested too deep"),
    ({"a": ONE}, b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {}}', "gives 'a' twice"),
    ({"a": ONE}, b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', "ends at byte"),
    ({"a": ONE}, b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}', "it is cut short"),
    ({"a": ONE}, b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', "tensor 'a' leaves a gap"),
    ({"a": ONE}, b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}', "tensor 'a' has -8 bytes"),
    (
        {"a": ONE},
        json.dumps({name: {"dtype": "F32", "shape": [count], "data_offsets": [8 - 4 * count, 8]} for name, count in
                    {"a": 2, "b": 1}.items()}).encode(),
        "tensor 'b' overlaps the one before it",
    ),
])  # fmt: skip
def test_files_that_are_no_safetensors_are_refused(tmp_path, tensors, raw, fragment):
    path = safetensors(tmp_path / "w.safetensors", tensors, raw)
    refused(lambda: read_arrays(path), f"cannot read {path}", fragment.replace("ends at", "end at"))


@pytest.mark.parametrize("data", [b"", b"\0" * 7, struct.pack("<Q", 2**63), struct.pack("<Q", 10) + b"{}"])
def test_headers_that_do_not_fit_are_refused_before_they_are_read(tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    refused(lambda: read_arrays(tmp_path / "w.safetensors"), "it is no safetensors file")


@settings(max_examples=40)
@given(where=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 300), more=st.binary(max_size=9))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, where, byte, cut, more):
    path = tmp_path_factory.mktemp("damaged", numbered=True) / "w.safetensors"
    tensors = {"a": ("F32", [2, 3], b"1" * 24), "b": ("BF16", [4], b"2" * 8), "c": ("I8", [], b"3")}
    data = bytearray(safetensors(path, tensors).read_bytes())
    data[where % len(data)] = byte
    path.write_bytes(bytes(data[:cut] if cut < len(data) else data) + more)
    with contextlib.suppress(InputError):
        read_arrays(path)
    for name in ("w.npz", "w.npy"):
        np.savez(path.with_name("w.npz"), a=np.ones((2, 3)), b=np.arange(4))
        np.save(path.with_name("w.npy"), np.ones((2, 3)))
        data = bytearray(path.with_name(name).read_bytes())
        data[where % len(data)] = byte
        path.with_name(name).write_bytes(bytes(data[: max(1, len(data) - cut)]) + more)
        with contextlib.suppress(InputError):
            read_arrays(path.with_name(name))


# -- values from Python ----------------------------------------------------------------------------------


def test_with_parameters_is_a_scenario_that_starts_from_them(folder):
    np.savez(folder / "w.npz", **weights())
    first = scenario(folder, "w.npz")
    weight = np.ones((4, 3))
    second = first.with_parameters({"h.weight": weight})
    weight[:] = 5
    assert np.array_equal(second.parameters()["h.weight"], np.ones((4, 3)))
    assert np.array_equal(second.parameters()["y.bias"], weights()["y.bias"])
    assert np.array_equal(first.parameters()["h.weight"], weights()["h.weight"])
    assert second != first
    assert second == first.with_parameters({"h.weight": np.ones((4, 3), np.float32)})
    assert len({one.digest for one in (first, second)}) == len({first.parameters_digest, second.parameters_digest}) == 2
    third = second.with_parameters({"y.bias": [1, 2]})
    assert third.parameters()["y.bias"].tolist() == [1.0, 2.0]
    assert np.array_equal(third.parameters()["h.weight"], np.ones((4, 3)))
    assert np.array_equal(pcsim.simulate(third).updates["y.bias"], pcsim.gradients(third)["y.bias"])
    same = first.with_parameters(first.parameters())
    assert same.parameters_digest == first.parameters_digest


def test_with_parameters_refuses_what_does_not_fit():
    made = pcsim.load(net(), {"dtype": "float32"})
    problems = refused(
        lambda: made.with_parameters({
            "y.wieght": 1, "y.weight": np.ones(3), "y.bias": np.ma.masked_array([1.0, 2.0], [0, 1]),
        }),
        "parameters.y.wieght: there is no parameter 'y.wieght'; did you mean 'y.weight'?",
        "parameters.y.weight: has shape [3], expected [2, 3]",
        "parameters.y.bias: a masked array",
    )  # fmt: skip
    assert len(problems) == 3
    for bad in ([1e300, 1], [np.nan, 1]):
        refused(lambda: made.with_parameters({"y.bias": bad}), "parameters.y.bias: holds numbers that are not finite")  # noqa: B023
    refused(lambda: made.with_parameters({"y.bias": "ones"}), "parameters.y.bias: expected finite numbers")
    refused(lambda: made.with_parameters([1, 2]), "expected {parameter: array}, got a list")


# -- what is kept ----------------------------------------------------------------------------------------


def test_nothing_is_drawn_loaded_or_checked_twice(folder, monkeypatch):
    np.savez(folder / "w.npz", **weights())
    made = scenario(folder, "w.npz", **{"inputs.x": {"normal": [0, 1]}, "initial": {"normal": 1.0}})
    first = made.task()

    def never(*_, **__):
        raise AssertionError

    for name in ("initialise", "parameters_of_file", "level"):
        monkeypatch.setattr(f"pcsim.scenario.scenario.{name}", never)
    for name in ("load", "rounded", "stream"):
        monkeypatch.setattr(f"pcsim.scenario.task_data.{name}", never)
    second = made.task()
    for part in ("parameters", "inputs", "targets", "initial"):
        one, two = getattr(first, part), getattr(second, part)
        assert one.keys() == two.keys() != set()
        for name in one:
            assert one[name] is two[name]
            assert not one[name].flags.writeable
    other = made.with_parameters({"h.bias": np.ones(4)}).task()
    assert other.inputs["x"] is first.inputs["x"]
    assert other.parameters["h.weight"] is first.parameters["h.weight"]
    assert other.graph is first.graph


def test_what_is_kept_belongs_to_one_scenario():
    made = pcsim.load(net())
    made.task()
    other = replace(made, document=made.document.model_copy(update={"seed": 1}))
    assert not np.array_equal(other.parameters()["y.weight"], made.parameters()["y.weight"])


def test_one_graph_is_levelled_once():
    vertices = {
        "x": {"op": "input", "shape": [2]},
        "h": {"op": "tanh", "inputs": ["x"]},
        "y": {"op": "add", "inputs": ["h", "x"]},
        "z": {"op": "add", "inputs": ["h", "y"]},
    }
    graph = graph_from({"vertices": vertices})
    for form in ("delay", "identity"):
        assert pcsim.level(graph, form) is pcsim.level(graph, form)
    assert pcsim.level(graph, "none") is graph


def test_a_second_task_costs_next_to_nothing():
    vertices = {
        "h0": {"op": "input", "shape": [64]},
        "h$l": {"for": {"l": "1..128"}, "op": "affine", "units": 64, "activation": "tanh", "inputs": ["h$(l-1)"]},
    }
    made = pcsim.load({"graph": {"vertices": vertices}, "inputs": {"h0": 1.0}, "targets": {"h128": 0.0}, "rule": "fpa"})
    made.task()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        made.task()
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


# -- the two names of one key ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["literal", "exact_dynamics"])
def test_exact_dynamics_is_another_name_of_literal(key):
    made = pcsim.load({**net(), key: True})
    assert made.document.exact_dynamics
    assert made.document.literal
    assert made.digest == pcsim.load({**net(), "literal": True}).digest
    assert pcsim.load(net(), {key: True}).document.exact_dynamics
    assert not pcsim.load({**net(), key: False}).document.literal
    refused(lambda: pcsim.load({**net(), key: 3}), f"{key}: expected true or false, got 3")


def test_both_names_at_once_are_an_error(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "graph: {formula: sin(x)}\ninputs: {x: 1}\ntargets: {v1: 0}\nrule: il\nliteral: true\nexact_dynamics: no\n"
    )
    refused(lambda: pcsim.load(path), "s.yaml:6:17: exact_dynamics: expected true or false, got 'no'")
    path.write_text(path.read_text().replace("no\n", "true\n"))
    refused(lambda: pcsim.load(path), "s.yaml:6:17: exact_dynamics: is another name of 'literal'")
