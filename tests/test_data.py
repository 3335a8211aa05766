"""Where data come from."""
# ruff: noqa: E501 - a document and the line that says what is wrong with it stand side by side

from __future__ import annotations

import gzip
import os
import struct
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

import pcsim
from pcsim.errors import InputError
from pcsim.graph.array_files import read_array
from pcsim.graph.initialise import stream
from pcsim.ops.synapses.edge_files import read_edges
from pcsim.scenario.data import DataRequest, entry_of, load
from pcsim.scenario.datasets.dataset import one_hot
from pcsim.scenario.datasets.idx_files import read_idx


def wanted(shape=(3,), batch=4, seed=0, name="x", folder=Path(), whole=False):
    return DataRequest(
        shape,
        batch,
        lambda kind, shared: stream(seed, kind) if shared else stream(seed, kind, name),
        folder,
        whole=whole,
    )


def data(source, **kind):
    return load(entry_of(source), wanted(**kind))


def refused(source, fragment, **kind):
    with pytest.raises(InputError) as caught:
        data(source, **kind)
    assert fragment in str(caught.value)


def write_idx(path, array, code=8):
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    raw = head + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


# ---- in place


def test_one_sample_serves_the_batch_and_a_batch_itself():
    assert data(2).tolist() == [[2.0] * 3] * 4
    assert data([1, 2, 3]).tolist() == [[1, 2, 3]] * 4
    batch = np.arange(12).reshape(4, 3)
    assert np.array_equal(data(batch.tolist()), batch)
    assert np.array_equal(data({"values": batch, "scale": 0.5}), batch / 2)
    assert data({"values": 3, "scale": -2}, shape=()).tolist() == [-6.0] * 4
    refused([1, 2], "has shape [2], expected [3] or, a sample each, [4, 3]")
    refused([[1, 2, 3]], "has shape [1, 3]")
    for bad in ("word", "1", None, True, [1, None], [1, [2]], {"values": {}}):
        refused(bad, "")
    refused([1, 2, float("nan")], "finite")
    refused({}, "exactly one of")
    refused({"values": 1, "normal": [0, 1]}, "exactly one of")
    refused({"value": 1}, "value: unknown key 'value'; did you mean 'values'?")


# ---- draws


@pytest.mark.parametrize(("source", "mean", "deviation"), [
    ({"normal": [1, 2]}, 1, 2), ({"uniform": [-1, 3]}, 1, 4 / sqrt(12)), ({"normal": [1, 2], "scale": 3}, 3, 6),
])  # fmt: skip
def test_draws(source, mean, deviation):
    values = data(source, shape=(50,), batch=1000)
    assert values.shape == (1000, 50)
    assert abs(values.mean() - mean) < 6 * deviation / sqrt(values.size)
    assert values.std() == pytest.approx(deviation, rel=0.02)


def test_draws_depend_on_seed_and_name_alone():
    source = {"normal": [0, 1]}
    assert np.array_equal(data(source), data(source))
    assert not np.array_equal(data(source), data(source, name="y"))
    assert not np.array_equal(data(source), data(source, seed=1))


# ---- files


def test_npz(tmp_path):
    samples = np.arange(30.0).reshape(10, 3)
    np.savez(tmp_path / "a.npz", a=samples, b=np.ones(3), c=np.zeros((10, 3, 1)), n=np.arange(10))
    source = {"file": "a.npz", "key": "a"}
    assert np.array_equal(data(source, folder=tmp_path), samples[:4])
    assert np.array_equal(data({**source, "start": 6, "scale": 2}, folder=tmp_path), 2 * samples[6:])
    assert data({"file": "a.npz", "key": "b"}, folder=tmp_path).tolist() == [[1, 1, 1]] * 4
    assert data({"file": "a.npz", "key": "c"}, folder=tmp_path).shape == (4, 3)
    assert data({"file": "a.npz", "key": "n", "one_hot": 10}, shape=(10,), folder=tmp_path).argmax(1).tolist() == [
        0,
        1,
        2,
        3,
    ]
    refused({**source, "start": 7}, "has 10 samples, fewer than start 7 + batch 4", folder=tmp_path)
    refused(source, "a sample has shape [3], expected [5]", shape=(5,), folder=tmp_path)
    refused(
        {"file": "a.npz", "key": "n", "one_hot": 9},
        "labels go from 0 to 9, expected 0 to 8 for 9 classes",
        shape=(9,),
        folder=tmp_path,
    )


@pytest.mark.parametrize("name", ["images.idx", "images.gz"])
def test_idx(tmp_path, name):
    images = np.arange(48, dtype=np.uint8).reshape(4, 3, 4)
    write_idx(tmp_path / name, images)
    assert np.array_equal(read_idx(tmp_path / name), images)
    found = data({"file": name}, shape=(12,), folder=tmp_path)
    assert np.array_equal(found, images.reshape(4, 12))
    assert found.dtype == np.float64
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[:-9])
    with pytest.raises(InputError, match=r"cut short|cannot read"):
        read_idx(tmp_path / name)


@pytest.mark.parametrize(("code", "kind"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_idx_kinds(tmp_path, code, kind):
    array = np.array([[1, 2], [3, 4]], kind)
    write_idx(tmp_path / "a", array, code)
    assert np.array_equal(read_idx(tmp_path / "a"), array)


@pytest.mark.parametrize("raw", [b"", b"\0\0", b"\0\0\x08\x01", b"\0\0\x07\x01\0\0\0\0", b"hello world", b"\x1f\x8bjunk",
                                 b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff"])  # fmt: skip
def test_idx_refused(tmp_path, raw):
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(InputError):
        read_idx(tmp_path / "a")


# ---- data sets


def test_one_hot():
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(InputError, match="labels go from 0 to 3"):
        one_hot(np.array([0, 3]), 3)


def digits(field, shape):
    pytest.importorskip("sklearn")
    return data({"dataset": "digits", "field": field}, shape=shape, batch=1797, whole=True)


def test_digits():
    images, labels, targets = digits("images", (8, 8)), digits("labels", ()), digits("one_hot", (10,))
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert np.array_equal(targets.argmax(1), labels)
    assert np.array_equal(digits("levels", (64,)), 16 * images.reshape(-1, 64))


def test_misfits_show_before_a_data_set_is_loaded(monkeypatch):
    monkeypatch.setattr("pcsim.scenario.datasets.digits._digits", None)
    refused({"dataset": "digits"}, "a sample has shape [8, 8], expected [3]")
    refused({"dataset": "digits", "start": 1795}, "has 1797 samples, fewer than start 1795 + batch 4", shape=(64,))


def test_images_and_labels_are_shuffled_alike():
    pytest.importorskip("sklearn")

    def drawn(seed):
        scenario = pcsim.load({
            "graph": {"vertices": {"x": {"op": "input", "shape": [64]}, "y": {"op": "affine", "units": 10, "inputs": ["x"]}}},
            "inputs": {"x": {"dataset": "digits", "shuffle": True}},
            "targets": {"y": {"dataset": "digits", "field": "one_hot", "shuffle": True}},
            "batch": 50, "rule": "il", "seed": seed,
        })  # fmt: skip
        return scenario.inputs()["x"], scenario.targets()["y"]

    images, labels = digits("images", (64,)), digits("labels", ())
    inputs, targets = drawn(3)
    places = [int(np.flatnonzero((images == image).all(1))[0]) for image in inputs]
    assert np.array_equal(labels[places], targets.argmax(1))
    assert len(set(places)) == 50
    assert places != sorted(places)
    assert not np.array_equal(drawn(4)[0], inputs)


def test_mnist():
    folder = Path(os.environ.get("PCSIM_DATA", "../shared/data"))
    if not (folder / "mnist10k").is_dir():
        pytest.skip(f"no mnist10k in {folder}: set PCSIM_DATA")
    images = data({"dataset": "mnist"}, shape=(28, 28), batch=10_000)
    assert (images.min(), images.max()) == (0, 1)
    labels = data({"dataset": "mnist", "field": "labels"}, shape=(), batch=10_000, whole=True)
    assert np.array_equal(data({"dataset": "mnist", "field": "one_hot"}, shape=(10,), batch=10_000).argmax(1), labels)


def test_mnist_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PCSIM_DATA", str(tmp_path))
    refused({"dataset": "mnist"}, "set PCSIM_DATA to the folder that holds 'mnist10k'", shape=(784,))


@pytest.mark.parametrize("name", ["x.npy", "x.idx", "x.npz", "x.safetensors", "x.parquet"])
def test_what_is_no_plain_file_is_refused_before_it_is_opened(tmp_path, name):
    """A pipe that nobody writes to would wait for ever."""
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(InputError, match="it is a pipe or a device, not a file"):
        _read_any(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="it is a folder, not a file"):
        _read_any(path)


def _read_any(path):
    if path.suffix == ".parquet":
        read_edges({"file": path.name}, path.parent, 3, 3)
    elif path.suffix == ".idx":
        read_idx(path)
    else:
        read_array(path, None)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
def test_a_device_is_refused():
    with pytest.raises(InputError, match="not a file"):
        read_idx(Path("/dev/zero"))


def test_a_file_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pcsim.resources.available", lambda: 1_000)
    np.save(tmp_path / "x.npy", np.zeros(200))
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(100_000))
    (tmp_path / "x.idx").write_bytes(gzip.compress(b"\0\0\x08\1" + (100_000).to_bytes(4, "big") + bytes(100_000)))
    for name in ("x.npy", "x.npz", "x.idx"):
        with pytest.raises(InputError, match=r"this machine has 0\.0 MiB of memory left"):
            _read_any(tmp_path / name)


def test_no_more_of_a_compressed_file_is_read_than_its_head_says(tmp_path):
    (tmp_path / "x.idx").write_bytes(gzip.compress(b"\0\0\x08\1" + (3).to_bytes(4, "big") + bytes(10**8)))
    with pytest.raises(InputError, match="it holds more than 3 bytes"):
        read_idx(tmp_path / "x.idx")
