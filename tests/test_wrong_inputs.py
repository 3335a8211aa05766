"""Shipped documents with something broken in them are refused with a place, or run; at once, and in little memory."""
# ruff: noqa: E501 - lists of what is wrong

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pcsim.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted((ROOT / "scenarios").glob("*.yaml")), *sorted((ROOT / "graphs").glob("*.yaml"))]
SECONDS, BYTES = 3.0, 500_000_000
PLACE = re.compile(r"^\S+:\d+:\d+: ")

VALUES = [
    None, True, -1, 0, 1, 2.5, 1e-3, 10**9, 10**18, -(10**30), float("inf"), float("nan"), "", "x", "il", "none.yaml", "a b",
    "$", "$x", "$(1 // 0)", "$(9 ** 64)", "1..3", "3..1", "1..1000000000", "\0", "\u202e", "é", "-", "0x1f", "1e400", "x" * 5000,
    [], [1], [[1], [1, 2]], ["x", "x"], {}, {"x": 1}, {"normal": [0, 1]}, {"normal": [0]}, {"file": "none.npz"}, {"file": "."},
    {"file": "pipe"}, {"file": "zeros"}, {"file": "text.npz"}, {"dataset": "nothing"}, {"values": [[[1]]]}, {"use": "."},
    {"op": "tahn"}, {"if": "maybe"}, {"for": {"l": "1..0"}}, {"from": "x", "delay": -1}, {"from": "x", "delay": 10**7},
]  # fmt: skip
KEYS = [
    "",
    "x",
    "op",
    "for",
    "if",
    "use",
    "inputs",
    "pcsim",
    "a b",
    "a->b",
    "h$l",
    "$",
    "\0x",
    "\u202ex",
    "a.b",
    "1",
    5,
    "é",
]
LINES = [
    "\t",
    "{",
    "]",
    "- ",
    ": :",
    "? ",
    "&a",
    "*a",
    "!!python/object:os.system x",
    "<<: x",
    "%YAML 9",
    "---",
    "[" * 1100,
    "'",
]


def places(tree, path=()):
    """Yield the path of every value of a document."""
    yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, (*path, key))


def parent(tree, path):
    for key in path[:-1]:
        tree = tree[key]
    return tree


def delete(tree, path, _):
    del parent(tree, path)[path[-1]]


def change(tree, path, chance):
    parent(tree, path)[path[-1]] = chance.choice(VALUES)


def rename(tree, path, chance):
    holder = parent(tree, path)
    if isinstance(holder, dict):
        holder[chance.choice([*KEYS, str(path[-1])[1:], f"{path[-1]}s"])] = holder.pop(path[-1])
    else:
        holder.insert(0, chance.choice(VALUES))


def add(tree, path, chance):
    holder = parent(tree, path)
    if isinstance(holder, dict):
        holder[chance.choice(KEYS)] = chance.choice(VALUES)
    else:
        holder.append(chance.choice(VALUES))


def swap(tree, path, chance):
    other = chance.choice([each for each in places(tree) if each])
    if other[: len(path)] != path != other and path[: len(other)] != other:
        value = parent(tree, other)[other[-1]]
        parent(tree, path)[path[-1]] = value


def spoiled(number):
    """Return the name and the text of a shipped document in which one or two things are changed."""
    chance = random.Random(number)
    path = chance.choice(DOCUMENTS)
    text = path.read_text()
    if chance.random() < 0.25:
        return path, spoiled_text(text, chance)
    tree = yaml.safe_load(text)
    for _ in range(chance.choice([1, 1, 1, 2])):
        where = chance.choice([each for each in places(tree) if each])
        chance.choice([delete, change, change, rename, add, swap])(tree, where, chance)
    return path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def spoiled_text(text, chance):
    """Return a text with a line too many, a piece cut out, or a character changed."""
    at, lines = chance.randrange(len(text)), text.splitlines()
    if (kind := chance.randrange(4)) == 0:
        lines.insert(chance.randrange(len(lines)), chance.choice(LINES))
        return "\n".join(lines)
    if kind == 1:
        return text[:at] + text[at + chance.randrange(1, 40) :]
    if kind == 2:
        return text[:at] + chance.choice("[]{}:,-#&*!|>'\"%@`$\0\u202e\t 0e.") + text[at + 1 :]
    return text[:at]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder beside which the graphs lie, with files that are none."""
    for name in ("graphs", "scenarios"):
        (tmp_path / name).mkdir()
    for path in (ROOT / "graphs").glob("*.yaml"):
        (tmp_path / "graphs" / path.name).write_text(path.read_text())
    for place in (tmp_path / "graphs", tmp_path / "scenarios"):
        os.mkfifo(place / "pipe")
        (place / "zeros").symlink_to("/dev/zero")
        (place / "text.npz").write_text("no numbers")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(path, text, folder):
    name = f"{path.parent.name}/{path.name}"
    (folder / name).write_text(text)
    commands = [["validate"]] if path.parent.name == "graphs" else [["validate"], ["plan"], ["run", "--until", "3"]]
    said = [answer(*command, name) for command in commands]
    if len(said) > 1:
        assert (said[1].exit_code, said[1].stderr) == (said[0].exit_code, said[0].stderr)
        assert said[0].exit_code != 2 or said[2].exit_code == 2


def answer(*arguments):
    """Return what a command says; it is quick, and tells the place of all that is wrong."""
    began = time.perf_counter()
    result = CliRunner().invoke(app, list(arguments))
    assert time.perf_counter() - began < SECONDS
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code == 1:  # numbers that grow beyond their format, and what does not fit into memory
        assert re.search("not finite|infinite|overflow|memory|domain|NaN", result.stderr), result.stderr
    else:
        assert result.exit_code in (0, 2), result.output
    lines = result.stderr.splitlines() if result.exit_code == 2 else []
    assert all(PLACE.match(line) or line.startswith("and ") for line in lines), result.stderr
    assert all(len(line) < 2000 for line in lines)
    return result


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_a_spoiled_document_is_refused_with_a_place_or_runs(folder, first):
    for number in range(first, first + 10):
        check(*spoiled(number), folder)


@pytest.mark.bench
@pytest.mark.parametrize("first", range(60, 400, 20))
def test_many_spoiled_documents_are_refused_with_a_place_or_run(folder, first):
    for number in range(first, first + 20):
        check(*spoiled(number), folder)


LARGE = [
    ("units: 3", "units: 1000000000"), ("units: 3", "units: 30000000"), ("shape: [2]", "shape: [1000000000]"),
    ("ticks: 20", "ticks: 1000000000"), ("inputs: {x: [0.5, -1.0]}", "inputs: {x: {normal: [0, 1]}}\nbatch: 100000000"),
    ("delay: 1", "delay: 1000000"), ("h1: {op", "h1$l: {for: {l: 1..1000000000}, op"), ("ticks: 20", "ticks: 10\nbatch: 99999999"),
    ("inputs: {x: [0.5, -1.0]}", "inputs: {x: {file: large.npy}}"), ("inputs: {x: [0.5, -1.0]}", "inputs: {x: {file: pipe}}"),
    ("inputs: {x: [0.5, -1.0]}", "inputs: {x: {file: zeros}}"), ("inputs: {x: [0.5, -1.0]}", "inputs: {x: {file: bomb.npz}}"),
    ("graph:", "graph: {file: large.npy}\nold:"), ("graph:", "graph: {file: zeros}\nold:"), ("graph:", "graph: {file: pipe}\nold:"),
    ("outputs: [y]", "outputs: [y]\n  args: {a: " + "[" * 1100 + "]" * 1100 + "}"),
]  # fmt: skip
LIMITED = """
import resource, sys
import pcsim.simulate, pcsim.run.validate, pcsim.view.scenario_plan, pcsim.view.run_tables, pcsim.engines.array.session
from pcsim.cli import main
held = 4096 * int(open('/proc/self/statm').read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv.pop(1)),) * 2)
main()
"""


@pytest.fixture
def large(folder):
    """The first scenario, beside files that are larger than the memory."""
    for name in ("large.npy", "bomb.npz"):
        with (folder / "scenarios" / name).open("wb") as file:
            file.truncate(10**12)
    return folder / "scenarios"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space")
@pytest.mark.parametrize(("before", "after"), LARGE)
def test_what_is_too_large_is_told_in_little_memory(large, before, after):
    text = (ROOT / "scenarios/first-steps.yaml").read_text()
    assert before in text
    (large / "s.yaml").write_text(text.replace(before, after, 1))
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(BYTES), "plan", str(large / "s.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert time.perf_counter() - began < SECONDS + 3  # the interpreter starts in one of them, on a busy machine in more
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2), done.stderr
    assert all(PLACE.match(line) for line in done.stderr.splitlines()), done.stderr
