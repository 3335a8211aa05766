"""Data sets in their original formats, written here in small; what is damaged is named; tasks with known answers."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import pcsim
from pcsim.errors import InputError
from pcsim.graph.initialise import stream
from pcsim.scenario.data import DataRequest, entry_of, open_data
from pcsim.scenario.datasets import DATASETS
from pcsim.scenario.datasets.name_lists import LETTERS, folded
from pcsim.scenario.named_files import named_files
from pcsim.view.diagnosis import diagnosis
from pcsim.view.json_schema import json_schema
from pcsim.view.listing import LISTS

DATA = Path(os.environ.get("PCSIM_DATA", "../shared/data"))
RANDOM = np.random.default_rng(0)


def samples_of(reader, section, places, split=None):
    return {name: column.take(places) for name, column in reader.columns(section, split).items()}


def opened(source, shape=(), *, folder=Path(), whole=False, split=None, seed=0, read=None):
    def draws(kind, shared):
        return stream(seed, kind) if shared else stream(seed, kind, "x")

    request = DataRequest(shape, None, draws, folder, whole=whole, split=split, read={} if read is None else read)
    return open_data(entry_of(source), request)


def taken(source, shape=(), places=None, **kind):
    found = opened(source, shape, **kind)
    return found.take(range(found.count) if places is None else places)


def refused(source, *fragments, shape=(), **kind):
    with pytest.raises(InputError) as caught:
        taken(source, shape, **kind)
    (problem,) = caught.value.problems
    for fragment in fragments:
        assert fragment in problem.message
    return problem.message


def need(name):
    if not (DATA / name).exists():
        pytest.skip(f"no {name} in {DATA}: set PCSIM_DATA")
    return DATA / name


# -- small files in the original formats -------------------------------------------------------------------

COUNT = 7


def images(*shape):
    return RANDOM.integers(0, 256, (COUNT, *shape), np.uint8)


def labels(classes):
    return RANDOM.integers(0, classes, COUNT).astype(np.uint8)


def write_idx(path, array):
    raw = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def fashion(folder):
    held = images(28, 28), labels(10)
    write_idx(folder / "train-images-idx3-ubyte.gz", held[0])
    write_idx(folder / "train-labels-idx1-ubyte", held[1])
    return held


def cifar10(folder):
    held = images(3, 32, 32), labels(10)
    (folder / "cifar-10-batches-bin").mkdir()
    for number in range(1, 6):
        rows = slice(number - 1, number) if number < 5 else slice(4, None)
        raw = np.concatenate([held[1][rows, None], held[0][rows].reshape(-1, 3072)], axis=1)
        (folder / f"cifar-10-batches-bin/data_batch_{number}.bin").write_bytes(raw.tobytes())
    return held


def cifar100(folder):
    held = images(3, 32, 32), labels(100), labels(20)
    raw = np.concatenate([held[2][:, None], held[1][:, None], held[0].reshape(COUNT, -1)], axis=1)
    (folder / "train.bin").write_bytes(raw.tobytes())
    return held


def cifar10_pickled(folder, protocol=2):
    held = images(3, 32, 32), labels(10)
    for number in range(1, 6):
        rows = slice(number - 1, number) if number < 5 else slice(4, None)
        batch = {
            b"batch_label": b"training",
            b"labels": held[1][rows].tolist(),
            b"data": held[0][rows].reshape(-1, 3072),
        }
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(batch, protocol))
    return held


def cifar100_pickled(folder):
    held = images(3, 32, 32), labels(100), labels(20)
    batch = {"fine_labels": held[1].tolist(), "coarse_labels": held[2].tolist(), "data": held[0].reshape(COUNT, -1)}
    (folder / "train").write_bytes(pickle.dumps(batch))
    return held


def svhn(folder):
    held = images(3, 32, 32), labels(10)
    stored = np.where(held[1] == 0, 10, held[1])[:, None].astype(np.uint8)
    savemat(folder / "train_32x32.mat", {"X": held[0].transpose(2, 3, 1, 0), "y": stored}, do_compression=True)
    return held


WRITERS = {
    "fashion-mnist": (fashion, (28, 28), 10), "cifar10": (cifar10, (3, 32, 32), 10),
    "cifar100": (cifar100, (3, 32, 32), 100), "svhn": (svhn, (3, 32, 32), 10),
}  # fmt: skip
PICKLED = {"cifar10": (cifar10_pickled, (3, 32, 32), 10), "cifar100": (cifar100_pickled, (3, 32, 32), 100)}
ALL = [*WRITERS.items(), *PICKLED.items()]


@pytest.mark.parametrize(("name", "how"), ALL, ids=[how[0].__name__ for _, how in ALL])
def test_original_files(tmp_path, name, how):
    write, shape, classes = how
    held = write(tmp_path)
    source = {"dataset": name, "folder": str(tmp_path)}
    assert opened(source, shape).count == COUNT
    assert np.array_equal(taken(source, shape), held[0] / 255)
    some = np.array([5, 0, 5])
    assert np.array_equal(taken(source, shape, some), held[0][some] / 255)
    numbers = taken({**source, "field": "labels"}, whole=True)
    assert np.array_equal(numbers, held[1])
    assert numbers.dtype.kind in "iu"
    assert np.array_equal(taken({**source, "field": "one_hot"}, (classes,)).argmax(1), held[1])
    if len(held) > 2:
        assert np.array_equal(taken({**source, "field": "coarse_labels"}), held[2])
        assert taken({**source, "field": "coarse_one_hot"}, (20,)).shape == (COUNT, 20)
    other = {**source, "split": "test"}
    message = refused(other, str(tmp_path), shape=shape)
    assert message.endswith(DATASETS[name].origin)
    (of_split,) = {refused(source, shape=shape, split="test")}
    assert of_split == message
    refused(source, "has no split 'tset'", "did you mean 'test'?", shape=shape, split="tset")
    prints = named_files({"a": [source]}, tmp_path)
    assert len(prints) == len([path for path in tmp_path.rglob("*") if path.is_file()])
    assert all(prints.values())


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(tmp_path, protocol):
    held = cifar10_pickled(tmp_path, protocol)
    assert np.array_equal(taken({"dataset": "cifar10", "folder": str(tmp_path)}, (3, 32, 32)), held[0] / 255)


class Run:
    def __init__(self, what, *given):
        self.what, self.given = what, given

    def __reduce__(self):
        return self.what, self.given


@pytest.mark.parametrize("bad", [
    Run(os.mkdir, "made"), Run(eval, "1"), Run(np.load, "x"), Run(pickle.loads, b"."), np.array([{}], object),
    Run(np.ndarray, (10**12,)), {1, 2}, Path("x"), {b"data": b"short", b"labels": 3}, [1], {b"labels": ["a"]},
], ids=["mkdir", "eval", "load", "loads", "objects", "huge", "set", "path", "short", "list", "text"])  # fmt: skip
def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch, bad):
    monkeypatch.chdir(tmp_path)
    cifar10_pickled(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(bad, 2))
    refused({"dataset": "cifar10", "folder": str(tmp_path)}, "data_batch_1", "Krizhevsky", shape=(3, 32, 32))
    assert not Path("made").exists()


def damages(raw):
    """Yield a file cut short at several places, with bytes of its head flipped, empty, and something else."""
    random = np.random.default_rng(len(raw))
    for place in (0, 1, 3, 9, 17, len(raw) // 3, len(raw) // 2, len(raw) - 1):
        yield raw[:place]
    for place in [*range(0, 15, 3), *random.integers(0, min(len(raw), 300), 12)]:
        yield raw[:place] + bytes([raw[place] ^ int(random.integers(1, 256))]) + raw[place + 1 :]
    yield b"<html>not found</html>" * 30


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "how"), ALL, ids=[how[0].__name__ for _, how in ALL])
def test_a_damaged_file_is_one_problem_that_names_it(tmp_path, name, how):
    write, shape, classes = how
    held = write(tmp_path)
    wrong = 0
    for path in [path for path in tmp_path.rglob("*") if path.is_file()][:2]:
        raw = path.read_bytes()
        for damaged in damages(raw):
            path.write_bytes(damaged)
            try:
                source = {"dataset": name, "folder": str(tmp_path)}
                found = taken(source, shape), taken({**source, "field": "one_hot"}, (classes,))
                assert found[0].shape[1:] == shape
                assert len(found[0]) == len(found[1])
            except InputError as error:
                (problem,) = error.problems
                assert path.name in problem.message
                assert "\n" not in problem.message
                assert problem.message.endswith(DATASETS[name].origin)
                wrong += 1
            path.write_bytes(raw)
    assert wrong >= 8
    assert np.array_equal(taken({"dataset": name, "folder": str(tmp_path)}, shape), held[0] / 255)


def test_images_and_labels_that_do_not_belong_together(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", images(28, 28))
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels(10)[:5])
    source = {"dataset": "mnist", "folder": str(tmp_path)}
    refused(source, "holds 7 images", "5 labels", shape=(28, 28))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(COUNT, 11, np.uint8))
    refused({**source, "field": "labels"}, "train-labels-idx1-ubyte", "labels go from 11 to 11")
    write_idx(tmp_path / "train-images-idx3-ubyte", images(32, 32))
    refused(source, "holds shape [7, 32, 32], expected bytes of shape [images, 28, 28]", shape=(28, 28))


def test_folders_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PCSIM_DATA", str(tmp_path / "none"))
    for name, row in DATASETS.items():
        if row.home and name not in ("mnist", "text"):
            refused({"dataset": name}, str(tmp_path / "none"), row.origin, shape=(1,))
    refused({"dataset": "mnist", "split": "train"}, "are of the test set; name the folder", shape=(28, 28))
    refused({"dataset": "text"}, "no such file", "char-rnn", shape=(1,))
    refused({"dataset": "image-folder"}, "needs the key 'folder'")


# -- folders of images, names, texts -----------------------------------------------------------------------


def image_folder(folder, mode="RGB"):
    image = pytest.importorskip("PIL.Image")
    shape = (4, 6, 3) if mode == "RGB" else (4, 6)
    held = [RANDOM.integers(0, 256, shape, np.uint8) for _ in range(5)]
    for number, pixels in enumerate(held):
        inside = folder / ("cats" if number < 2 else "dogs")
        inside.mkdir(exist_ok=True, parents=True)
        image.fromarray(pixels).save(inside / f"{number}.png")
    return np.array(held)


def test_a_folder_of_images(tmp_path, monkeypatch):
    held = image_folder(tmp_path / "train")
    source = {"dataset": "image-folder", "folder": str(tmp_path), "split": "train"}
    assert np.array_equal(taken(source, (3, 4, 6)), held.transpose(0, 3, 1, 2) / 255)
    assert taken({**source, "field": "labels"}).tolist() == [0, 0, 1, 1, 1]
    assert taken({**source, "colour": "grey"}, (4, 6)).shape == (5, 4, 6)
    assert taken({**source, "size": [2, 3]}, (3, 2, 3)).shape == (5, 3, 2, 3)
    refused({**source, "split": None}, "say which with 'split'", shape=(3, 4, 6))
    assert len(named_files(source, tmp_path)) == 5
    monkeypatch.setattr("pcsim.scenario.named_files.MOST_FILES", 4)
    (whole,) = named_files(source, tmp_path).items()
    assert whole[0] == f"image-folder/{tmp_path}"
    (tmp_path / "train/dogs/3.png").write_bytes((tmp_path / "train/dogs/3.png").read_bytes()[:60])
    refused(source, "cannot read the image", "3.png", shape=(3, 4, 6))
    pytest.importorskip("PIL.Image").fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "train/dogs/3.png")
    refused(source, "3.png is 5 x 5, expected 4 x 6", "size: [4, 6]", shape=(3, 4, 6))


def test_names_end_on_their_last_letter(tmp_path):
    (tmp_path / "Polish.txt").write_text("Ślusàrski\n\nAb\n", encoding="utf-8")
    (tmp_path / "Irish.txt").write_text("O'Neal\n", encoding="utf-8")
    source = {"dataset": "names", "folder": str(tmp_path), "length": 6}
    letters = taken({**source, "field": "letters"}, (6, 57))
    read = ["".join(LETTERS[row.argmax()] if row.any() else "-" for row in name) for name in letters]
    assert read == ["O'Neal", "sarski", "----Ab"]
    assert taken({**source, "field": "labels"}).tolist() == [0, 1, 1]
    assert taken({**source, "field": "origin"}, (2,)).argmax(1).tolist() == [0, 1, 1]
    assert taken({**source, "field": "letter_labels"}, (6,), whole=True)[2].tolist() == [0, 0, 0, 0, 27, 2]
    step = taken({**source, "field": "letters", "index": 5}, (57,))
    assert np.array_equal(step, letters[:, 5])
    assert opened({"dataset": "names", "folder": str(tmp_path)}, (9, 57)).count == 3
    assert folded("Müller-Šik") == "MullerSik"
    (tmp_path / "Irish.txt").write_bytes(b"\xff\xfe\x00")
    refused(source, "Irish.txt", "UTF-8", "PyTorch tutorial", shape=(6, 57))
    (tmp_path / "Irish.txt").write_text("\n")
    refused(source, "Irish.txt holds no name", shape=(6, 57))


def test_a_text_and_the_same_text_one_character_later(tmp_path):
    (tmp_path / "a.txt").write_text("hello wörld", encoding="utf-8")
    source = {"dataset": "text", "file": "a.txt", "length": 4}
    characters = sorted(set("hello wörld"))
    inputs, targets = (
        taken({**source, "field": f"{name}_labels"}, (4,), folder=tmp_path, whole=True) for name in ("input", "target")
    )
    assert ["".join(characters[code] for code in row) for row in inputs] == ["hell", "o wö"]
    assert ["".join(characters[code] for code in row) for row in targets] == ["ello", " wör"]
    one_hot = taken({**source, "field": "targets"}, (4, len(characters)), folder=tmp_path)
    assert np.array_equal(one_hot.argmax(-1), targets)
    assert opened({**source, "stride": 1}, (4, len(characters)), folder=tmp_path).count == 7
    step = taken({**source, "index": 2}, (len(characters),), folder=tmp_path)
    assert np.array_equal(step.argmax(-1), inputs[:, 2])
    (tmp_path / "a.txt").write_text("hell")
    refused(source, "a.txt has 4 characters", folder=tmp_path, shape=(4, 3))


def test_real_names():
    need("names")
    found = opened({"dataset": "names", "field": "letters"}, (19, 57))
    assert found.count == 20_050
    origins = taken({"dataset": "names", "field": "origin"}, (18,))
    assert (origins.sum(0) > 50).all()


def test_real_text():
    need("shakespeare/input.txt")
    found = opened({"dataset": "text", "length": 50}, (50, 65))
    assert found.count == (1_115_394 - 1 - 50) // 50 + 1
    assert found.take(range(3)).sum() == 150


# -- tables ------------------------------------------------------------------------------------------------


def test_tables(tmp_path):
    (tmp_path / "a.csv").write_text('name,a,"b, b",n\nx,1.5,2,3\ny,-1,4e0,9007199254740993\n')
    table = {"file": "a.csv", "columns": ["a", "b, b"]}
    assert taken(table, (2,), folder=tmp_path).tolist() == [[1.5, 2], [-1, 4]]
    assert taken({"file": "a.csv", "columns": "n"}, folder=tmp_path, whole=True).tolist() == [3, 2**53 + 1]
    assert taken({"file": "a.csv", "columns": [1]}, (1,), folder=tmp_path).tolist() == [[1.5], [-1]]
    (tmp_path / "b.tsv").write_text("1\t2\n3\t4\n")
    assert taken({"file": "b.tsv"}, (2,), folder=tmp_path).tolist() == [[1, 2], [3, 4]]
    refused({"file": "a.csv", "columns": "nmae"}, "no column 'nmae'; did you mean 'name'?", folder=tmp_path)
    refused(
        {"file": "a.csv"},
        "line 2, column 'name' holds 'x', expected a number",
        "'columns'",
        folder=tmp_path,
        shape=(4,),
    )
    (tmp_path / "a.csv").write_text("a;b\n1;2\n3\n")
    refused({"file": "a.csv"}, "line 3 has 1 columns, expected 2", folder=tmp_path, shape=(2,))
    (tmp_path / "a.csv").write_text("a;b\n1;2\n3;nan\n")
    refused({"file": "a.csv"}, "column 'b' has no finite number in row 2", folder=tmp_path, shape=(2,))
    for raw in (b"", b"a,b\n", b"\xff\xfe", b"\0\0\0"):
        (tmp_path / "a.csv").write_bytes(raw)
        refused({"file": "a.csv"}, "a.csv", folder=tmp_path, shape=(2,))


def test_tables_of_numpy(tmp_path):
    np.save(tmp_path / "a.npy", np.array([(1, 2.5), (3, 4.5)], [("n", "i4"), ("x", "f4")]))
    np.save(tmp_path / "b.npy", np.arange(6).reshape(2, 3))
    assert taken({"file": "a.npy", "columns": ["x", "n"]}, (2,), folder=tmp_path).tolist() == [[2.5, 1], [4.5, 3]]
    assert taken({"file": "b.npy", "columns": 2}, folder=tmp_path).tolist() == [2, 5]
    refused({"file": "a.npy"}, "expected numbers", folder=tmp_path)
    refused({"normal": [0, 1], "columns": "a"}, "goes with a file")
    refused({"file": "x.idx", "columns": "a"}, "goes with .csv", folder=tmp_path)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": [1.5, 2.5], "n": [2**53 + 1, 3], "s": ["x", "y"]}), tmp_path / "a.parquet")
    assert taken({"file": "a.parquet", "columns": "a"}, folder=tmp_path).tolist() == [1.5, 2.5]
    assert taken({"file": "a.parquet", "columns": "n"}, folder=tmp_path, whole=True).tolist() == [2**53 + 1, 3]
    refused({"file": "a.parquet", "columns": "s"}, "column 's' holds 'x'", folder=tmp_path)
    refused({"file": "a.parquet", "columns": "b"}, "has no column 'b'", folder=tmp_path)
    raw = (tmp_path / "a.parquet").read_bytes()
    for damaged in damages(raw):
        (tmp_path / "a.parquet").write_bytes(damaged)
        with contextlib.suppress(InputError):
            taken({"file": "a.parquet", "columns": "a"}, folder=tmp_path)
    refused({"file": "a.parquet", "columns": "a"}, "cannot read", "a.parquet", folder=tmp_path)


# -- tasks with known answers ------------------------------------------------------------------------------

TASKS = {
    "teacher": {"inputs": (16,), "targets": (1,), "clean": (1,)},
    "heteroscedastic": {"inputs": (1,), "targets": (1,), "mean": (1,), "deviation": (1,)},
    "copy": {"inputs": (30, 10), "targets": (30, 10), "input_labels": (30,), "target_labels": (30,)},
    "adding": {"inputs": (50, 2), "targets": (1,)},
}


@pytest.mark.parametrize("name", TASKS)
def test_sample_i_is_sample_i_and_another_split_is_another_stream(name):
    assert TASKS[name].keys() == DATASETS[name].fields.keys()
    for part, shape in TASKS[name].items():
        source = {"dataset": name, "field": part}
        assert opened(source, shape).count is None
        many = taken(source, shape, range(700))
        assert np.array_equal(taken(source, shape, range(3)), many[:3])
        assert np.array_equal(taken({**source, "start": 300}, shape, range(300, 310)), many[600:610])
        assert np.array_equal(taken(source, shape, np.array([600, 2])), many[[600, 2]])
        others = taken(source, shape, range(700), split="test"), taken(source, shape, range(700), seed=1)
        if part != "target_labels":
            assert not any(np.array_equal(other, many) for other in others)


def fields(name, count=3000, split=None, **keys):
    return {
        part: taken({"dataset": name, "field": part, **keys}, shape, range(count), split=split)
        for part, shape in TASKS[name].items()
    }


def test_the_network_of_a_regression_is_one_for_all_splits():
    train = fields("teacher", noise=0.5)
    assert np.std(train["targets"] - train["clean"]) == pytest.approx(0.5, rel=0.05)
    assert np.std(train["clean"]) > 0.2
    # without hidden layers it is a linear map, the same for both
    line = [fields("teacher", depth=0, split=split) for split in (None, "test")]
    maps = [np.linalg.lstsq(each["inputs"], each["clean"], rcond=None)[0] for each in line]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-12)


def test_noise_that_grows_with_the_input():
    found = fields("heteroscedastic")
    np.testing.assert_allclose(found["mean"], 2 * np.sin(2 * np.pi * found["inputs"]))
    np.testing.assert_allclose(found["deviation"], 0.5 + found["inputs"])
    assert np.std((found["targets"] - found["mean"]) / found["deviation"]) == pytest.approx(1, rel=0.05)


def test_copies_and_sums():
    found = fields("copy", 50)
    symbols, answers = found["input_labels"], found["target_labels"]
    assert np.array_equal(symbols[:, :10], answers[:, 20:])
    assert (symbols[:, 19] == 9).all()
    assert (answers[:, :20] == 8).all()
    assert np.array_equal(found["inputs"].argmax(-1), symbols)
    sums = fields("adding", 4000)
    values, marks = sums["inputs"][..., 0], sums["inputs"][..., 1]
    assert (marks[:, :25].sum(1) == 1).all()
    assert (marks[:, 25:].sum(1) == 1).all()
    np.testing.assert_allclose((values * marks).sum(1), sums["targets"][:, 0])
    assert ((sums["targets"] - 1) ** 2).mean() == pytest.approx(1 / 6, rel=0.1)


# -- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "fragment"), [
    ({"dataset": "teacher", "widht": 3}, "unknown key 'widht' of data set 'teacher'; did you mean 'width'?"),
    ({"dataset": "mnist", "length": 3}, "unknown key 'length' of data set 'mnist'"),
    ({"dataset": "mnist", "file": "x"}, "unknown key 'file' of data set 'mnist'"),
    ({"dataset": "digits", "feild": "labels"}, "did you mean 'field'?"),
    ({"file": "a.npz", "colunms": "a"}, "unknown key 'colunms'; did you mean 'columns'?"),
    ({"dataset": "teacher", "noise": -1}, "expected a number of at least 0"),
    ({"dataset": "svhn", "split": "tain"}, "did you mean 'train'?"),
    ({"dataset": "names", "folder": 3}, "expected the path"),
    ({"dataset": "teachers"}, "unknown data set 'teachers'; did you mean 'teacher'?"),
    ({"dataset": "copy", "field": "input"}, "has no field 'input'; did you mean 'inputs'?"),
])  # fmt: skip
def test_keys_that_a_data_set_does_not_have(source, fragment):
    refused(source, fragment)


def test_the_schema_knows_the_keys_of_each_data_set():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema("scenario")
    entry = {"$ref": "#/$defs/DataEntry", "$defs": schema["$defs"]}
    valid = jsonschema.Draft202012Validator(entry).is_valid
    assert valid({"dataset": "teacher", "width": 3, "noise": "$noise", "start": 3})
    assert valid({"dataset": "text", "file": "a.txt", "stride": 1})
    assert valid({"file": "a.csv", "columns": ["a", 2]})
    for bad in (
        {"dataset": "teacher", "widht": 3}, {"dataset": "mnist", "file": "x"}, {"dataset": "image-folder"},
        {"file": "a", "width": 3}, {"dataset": "teacher", "width": 0},
    ):  # fmt: skip
        assert not valid(bad), bad


GRAPH = {"vertices": {"x": {"op": "input", "shape": [16]}, "y": {"op": "affine", "units": 1, "inputs": ["x"]}}}
TASK = {
    "graph": GRAPH, "rule": "bp", "batch": 8, "inputs": {"x": {"dataset": "teacher", "width": 4}},
    "targets": {"y": {"dataset": "teacher", "field": "targets", "width": 4}},
}  # fmt: skip


def test_fields_of_one_data_set_are_of_the_same_samples():
    pcsim.load(TASK).check()
    with pytest.raises(InputError, match=r"targets\.y.*has width 32, and at inputs\.x 4: samples do not belong"):
        pcsim.load(TASK, {"targets.y": {"dataset": "teacher", "field": "targets"}}).check()


def test_lists_say_what_there_is_and_where_it_can_be_had(monkeypatch):
    rows = {row["dataset"]: row for row in LISTS["datasets"]()}
    assert rows.keys() == DATASETS.keys()
    for name, row in DATASETS.items():
        assert all(f"{part}: {held}" in rows[name]["fields"] for part, held in row.fields.items())
        assert [key["key"] for key in rows[name]["keys"]] == list(row.keys)
        assert set(row.paired) <= set(row.keys)
        assert row.origin or name == "image-folder"
        assert rows[name]["source"] == row.origin
    monkeypatch.setenv("PCSIM_DATA", "none")
    assert diagnosis()["data"]["fashion-mnist"] == "not in none/fashion-mnist"


def test_a_target_in_another_order_than_its_input_is_told():
    source = {"dataset": "digits", "shuffle": True}
    document = {**digits(), "inputs": {"x": source, "z": 0}, "targets": {"y": {"dataset": "digits", "field": "levels"}}}
    (said,) = pcsim.load({**document, "graph": LEVELS}).warnings()
    assert "targets.y: has start 0, shuffle false, as no input from the same data has" in said
    document["targets"]["y"]["shuffle"] = True
    assert pcsim.load({**document, "graph": LEVELS}).warnings() == []


LEVELS = {"vertices": {
    "x": {"op": "input", "shape": [64]}, "z": {"op": "input", "shape": [64]}, "y": {"op": "add", "inputs": ["x", "z"]},
}}  # fmt: skip


# -- samples by their number -------------------------------------------------------------------------------


def test_a_reader_takes_any_samples():
    scenario = pcsim.load(TASK, {"inputs.x.start": 2, "targets.y.start": 2})
    reader = scenario.sample_reader()
    assert reader.available() is None
    assert np.array_equal(samples_of(reader, "inputs", range(8))["x"], scenario.inputs()["x"])
    assert np.array_equal(samples_of(reader, "targets", range(8))["y"], scenario.targets()["y"])
    many = samples_of(reader, "inputs", range(500))["x"]
    assert np.array_equal(samples_of(reader, "inputs", np.array([400, 3]))["x"], many[[400, 3]])
    assert not np.array_equal(samples_of(reader, "inputs", range(8), "test")["x"], many[:8])


def digits(**more):
    pytest.importorskip("sklearn")
    graph = {"vertices": {"x": {"op": "input", "shape": [64]}, "z": {"op": "input", "shape": [2]},
                          "h": {"op": "affine", "units": 2, "inputs": ["x"]},
                          "y": {"op": "add", "inputs": ["h", "z"]}}}  # fmt: skip
    return {"graph": graph, "rule": "bp", "batch": 5, "inputs": {"x": {"dataset": "digits", "shuffle": True}, "z": 0.5},
            "targets": {"y": {"normal": [0, 1]}}, "dtype": "float32", **more}  # fmt: skip


def test_a_reader_says_what_there_is_and_refuses_the_others():
    scenario = pcsim.load(digits())
    reader = scenario.sample_reader()
    assert reader.available() == 1797
    whole = samples_of(reader, "inputs", range(1797))["x"]
    assert whole.dtype == np.float32
    assert np.array_equal(whole[:5], scenario.inputs()["x"])
    assert len(np.unique(whole, axis=0)) == len(np.unique(digits_images(), axis=0))
    assert np.array_equal(samples_of(reader, "targets", range(9))["y"][:5], scenario.targets()["y"])
    with pytest.raises(InputError, match=r"inputs\.x: has 1797 samples, fewer than start 0 \+ sample 1800"):
        samples_of(reader, "inputs", range(1790, 1801))
    with pytest.raises(InputError, match=r"inputs\.x: has no split 'test'"):
        samples_of(reader, "inputs", range(3), "test")


def digits_images():
    return taken({"dataset": "digits"}, (64,))


def test_a_reader_reads_once_and_keeps_bytes(tmp_path, monkeypatch):
    held = fashion(tmp_path)
    graph = {"vertices": {"x": {"op": "input", "shape": [784]}, "y": {"op": "affine", "units": 10, "inputs": ["x"]}}}
    source = {"dataset": "fashion-mnist", "folder": str(tmp_path)}
    scenario = pcsim.load({"graph": graph, "rule": "bp", "batch": 2, "inputs": {"x": source},
                           "targets": {"y": {**source, "field": "one_hot"}}, "dtype": "float32"})  # fmt: skip
    monkeypatch.setattr("pcsim.scenario.sample_reader.AT_ONCE", 1600)
    reader = scenario.sample_reader()
    assert reader.available() == COUNT
    whole = samples_of(reader, "inputs", range(COUNT))["x"]
    assert np.array_equal(whole, (held[0] / 255).astype(np.float32).reshape(COUNT, -1))
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    assert np.array_equal(samples_of(reader, "inputs", np.array([6, 1]))["x"], whole[[6, 1]])
    assert np.array_equal(samples_of(reader, "targets", range(3, 5))["y"].argmax(1), held[1][3:5])


def test_training_is_judged_on_the_split_that_it_names(tmp_path):
    for part, count in (("train", 40), ("t10k", 12)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", RANDOM.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", RANDOM.integers(0, 10, count).astype(np.uint8))
    graph = {"vertices": {"x": {"op": "input", "shape": [784]}, "y": {"op": "affine", "units": 10, "inputs": ["x"]}}}
    document = {"graph": graph, "rule": "bp", "batch": 8, "loss": "cross_entropy", "inputs": {"x": {
        "dataset": "fashion-mnist", "folder": str(tmp_path)}}, "targets": {"y": {
        "dataset": "fashion-mnist", "folder": str(tmp_path), "field": "one_hot"}}}  # fmt: skip
    document["train"] = {"optimiser": "sgd", "test": {"split": "test", "samples": 12}}
    assert pcsim.load(document).warnings() == []
    pcsim.train(document)
    with pytest.raises(InputError, match="there are 12 of split 'test'"):
        pcsim.train(pcsim.load(document, {"train.test.samples": 13}))


def test_one_hot_fields_are_probabilities():
    for name, keys in (("copy", {}), ("text", {"length": 50})):
        if name == "text":
            need("shakespeare/input.txt")
        shape = {"copy": (30, 10), "text": (50, 65)}[name]
        assert DATASETS[name].rows == ("inputs", "targets")
        for part in DATASETS[name].rows:
            assert (taken({"dataset": name, "field": part, **keys}, shape, range(20)).sum(-1) == 1).all()


def test_given_samples_stand_in(tmp_path):
    given = {"x": RANDOM.normal(size=(8, 16))}
    reader = pcsim.load(TASK).with_data(inputs=given).sample_reader()
    assert reader.available() == 8
    assert np.array_equal(samples_of(reader, "inputs", [6, 2])["x"], given["x"][[6, 2]])


def test_lists_in_place_are_samples_too():
    scenario = pcsim.load(TASK, {"inputs.x": RANDOM.normal(size=(12, 16)).tolist(), "targets.y": 0.25, "batch": 12})
    reader = scenario.sample_reader()
    assert reader.available() == 12
    assert samples_of(reader, "targets", range(30))["y"].shape == (30, 1)
