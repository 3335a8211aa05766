"""Networks learn from data sets: names and a text, in small files and in the real ones; what damages such files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import pcsim
from pcsim.errors import InputError
from pcsim.scenario.datasets.name_lists import LETTERS

DATA = Path(os.environ.get("PCSIM_DATA", "../shared/data"))
GRAPHS = Path(__file__).parents[1] / "graphs"
NAMES = {"Irish.txt": ["Neal", "Adam", "Byrne"], "Polish.txt": ["Śliwa", "Adamczak", "Kos", "Maj", "Gil"]}
LINE = "to be, or not to be: that is the question. "


def steps(entry):
    return {"x$t": {"for": {"t": "1..$T"}, "index": "$(t - 1)", **entry}}


def of_names(folder, origins, length, rule="bp"):
    source = {"dataset": "names", "length": length, **({"folder": str(folder)} if folder else {})}
    arguments = {"T": length, "features": len(LETTERS), "units": 6, "classes": origins}
    return {
        "graph": {"file": str(GRAPHS / "rnn.yaml"), "args": arguments}, "rule": rule, "batch": 4,
        "loss": "cross_entropy", "inputs": steps({**source, "field": "letters"}),
        "targets": {"y": {**source, "field": "origin"}},
        "train": {"optimiser": {"name": "sgd", "rate": 0.5}, "epochs": 1, "samples": 8, "shuffle": False},
    }  # fmt: skip


def of_text(file, characters, length, rule="bp"):
    source = {"dataset": "text", "length": length, **({"file": str(file)} if file else {})}
    arguments = {"T": length, "features": characters, "units": 6, "outputs": characters}
    each = {"for": {"t": "1..$T"}, "index": "$(t - 1)", **source, "field": "targets"}
    return {
        "graph": {"file": str(GRAPHS / "lstm.yaml"), "args": arguments}, "rule": rule, "batch": 4,
        "inputs": steps({**source, "field": "inputs"}), "targets": {"step$t.y": each},
        "train": {"optimiser": {"name": "sgd", "rate": 0.5}, "epochs": 1, "samples": 8, "shuffle": False},
    }  # fmt: skip


def descended(document, inputs, targets):
    """Return the parameters after a step on the first four samples and one on the next four."""
    task = pcsim.load(document, {"train": None})
    theta = {name: np.array(array) for name, array in task.parameters().items()}
    for some in (slice(0, 4), slice(4, 8)):
        batch = [{name: array[some] for name, array in arrays.items()} for arrays in (inputs, targets)]
        for name, update in pcsim.gradients(task.with_parameters(theta).with_data(*batch)).items():
            theta[name] = theta[name] + 0.5 * update / 4
    return theta


def check_trained(document, inputs, targets):
    done, wanted = pcsim.train(document), descended(document, inputs, targets)
    begun = pcsim.load(document).parameters()
    assert done.summary["steps"] == 2
    for name, array in wanted.items():
        assert not np.array_equal(array, begun[name])
        np.testing.assert_allclose(done.parameters[name], array, rtol=1e-12, atol=1e-13)


def write_names(folder):
    for file, names in NAMES.items():
        (folder / file).write_text("\n".join(names) + "\n", encoding="utf-8")


def test_a_network_learns_from_names(tmp_path):
    write_names(tmp_path)
    names = [name.replace("Ś", "S")[-5:] for held in NAMES.values() for name in held]
    letters = np.zeros((8, 5, len(LETTERS)))
    for sample, name in enumerate(names):
        for place, letter in enumerate(name, 5 - len(name)):
            letters[sample, place, LETTERS.index(letter)] = 1
    inputs = {f"x{step + 1}": letters[:, step] for step in range(5)}
    check_trained(of_names(tmp_path, 2, 5), inputs, {"y": np.eye(2)[[0, 0, 0, 1, 1, 1, 1, 1]]})


def test_a_network_learns_the_next_character_of_a_text(tmp_path):
    (tmp_path / "a.txt").write_text(LINE)
    characters = sorted(set(LINE))
    codes = np.array([characters.index(character) for character in LINE])
    one_hot = np.eye(len(characters))[codes]
    inputs = {f"x{step + 1}": one_hot[step : step + 40 : 5] for step in range(5)}
    targets = {f"step{step + 1}.y": one_hot[step + 1 : step + 41 : 5] for step in range(5)}
    check_trained(of_text(tmp_path / "a.txt", len(characters), 5), inputs, targets)


def test_zil_learns_from_real_names_and_shakespeare_what_backprop_does():
    if not all((DATA / name).exists() for name in ("names", "shakespeare/input.txt")):
        pytest.skip(f"no names or shakespeare in {DATA}: set PCSIM_DATA")
    for document, arguments in ((of_names, (None, 18, 4)), (of_text, (None, 65, 4))):
        bp, zil = (pcsim.train({**document(*arguments, rule), "level": "delay"}) for rule in ("bp", "zil"))
        assert bp.summary["steps"] == 2
        for name, array in bp.parameters.items():
            np.testing.assert_allclose(zil.parameters[name], array, rtol=1e-10, atol=1e-12)


def damages(raw):
    random = np.random.default_rng(len(raw))
    for place in (0, *random.integers(1, len(raw), 12)):
        yield raw[:place]
    for place in (*range(8), *random.integers(0, len(raw), 12)):
        yield raw[:place] + bytes([raw[place] ^ 128]) + raw[place + 1 :]


def read(entry, shape):
    graph = {"vertices": {"x": {"op": "input", "shape": shape}, "y": {"op": "affine", "units": 1, "inputs": ["x"]}}}
    document = {"graph": graph, "rule": "bp", "batch": 1, "inputs": {"x": entry}, "targets": {"y": 0}}
    return pcsim.load(document).inputs()["x"]


def write_image(path):
    image = pytest.importorskip("PIL.Image", reason="writes images")
    path.parent.mkdir()
    image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(path)


@pytest.mark.parametrize("kind", ["names", "text", "image-folder", "csv"])
def test_a_damaged_file_is_one_problem_that_names_it(tmp_path, kind):
    path = tmp_path / {"names": "A.txt", "text": "A.txt", "image-folder": "a/1.png", "csv": "a.csv"}[kind]
    source, shape = {
        "names": ({"dataset": "names", "folder": str(tmp_path), "length": 3}, [3, len(LETTERS)]),
        "text": ({"dataset": "text", "file": str(path), "length": 3, "field": "input_labels"}, [3]),
        "image-folder": ({"dataset": "image-folder", "folder": str(tmp_path)}, [3, 4, 4]),
        "csv": ({"file": str(path), "columns": ["a", "b"]}, [2]),
    }[kind]
    if kind == "image-folder":
        write_image(path)
        write_image(tmp_path / "b/1.png")
    else:
        (tmp_path / "B.txt").write_text("Kos\n")
        path.write_text({"names": "Neal\nAdam\n", "text": LINE, "csv": "a,b\n1,2\n3,4\n"}[kind])
    raw, refused = path.read_bytes(), 0
    for damaged in damages(raw):
        path.write_bytes(damaged)
        try:
            assert read(source, shape).shape == (1, *shape)
        except InputError as error:
            (problem,) = error.problems
            assert path.name in problem.message
            assert "\n" not in problem.message
            refused += 1
    assert refused >= 4


def test_house_numbers_that_are_no_bytes_are_refused(tmp_path):
    images = np.full((32, 32, 3, 2), 300, np.uint16)
    savemat(tmp_path / "train_32x32.mat", {"X": images, "y": np.array([[1], [10]], np.uint8)})
    entry = {"dataset": "svhn", "folder": str(tmp_path)}
    with pytest.raises(InputError, match=r"train_32x32\.mat: X is no array of bytes"):
        read(entry, [3, 32, 32])


@pytest.mark.parametrize("damaged", [b"\x80\x02]r\xff\xff\xff\x0f.", b"\x80\x02]p200000000\n."])
def test_a_damaged_pickle_takes_no_more_memory_than_it_has_bytes(tmp_path, damaged):
    (tmp_path / "train").write_bytes(damaged)
    with pytest.raises(InputError, match=r"train: .*more than it has bytes"):
        read({"dataset": "cifar100", "folder": str(tmp_path)}, [3, 32, 32])
