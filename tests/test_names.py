"""Names say what things are: plain words, functions of one screen, modules that cannot be mistaken for each other."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted((ROOT / "pcsim").rglob("*.py"))
}
TREES = {file: ast.parse(source) for file, source in SOURCES.items()}
TEXTS = {file: (ROOT / file).read_text(encoding="utf-8") for file in ("README.md", "pcsim/DESIGN.md", "pcsim/GUIDE.md")}

PRIVATE = {
    "bank", "banks", "ring", "rings", "posts", "lesson", "lessons", "teach", "teaches", "teacher", "taught", "play",
    "plays", "played", "playing", "journal", "rare", "sparing", "needed", "rest", "rests", "rested", "resting",
    "deaf", "heard", "hears", "hearing", "rouse", "roused", "stirred", "woke", "wake", "crew", "desk", "script",
    "scripts", "zoo", "rival", "rivals", "contest", "contests", "contestant", "contestants", "players", "words",
    "told", "found", "place",
}  # fmt: skip
"""Words that once had a private meaning: no class, function, module, attribute, constant or column is named by one."""

CLASSES = {"Part", "Scale", "Follower", "View", "Joint", "Bank", "Post", "Ring", "Journal", "Rare", "Throughout"}
CLASSES |= {"Spreading", "Settling", "Hull", "Flight", "Travellers"}
"""Names of classes whose words are ordinary English elsewhere."""

ORDINARY = ("in_place",)
"""Phrases in which such a word means what it always means."""

IN_PROSE = re.compile(
    r"\b(lessons?|taught|teach(es|ing|ers?)?|crew|desk|zoo|rivals?|contestants?|sparing|roused?|stirred|deaf"
    r"|numbers? (end|ends|ended)|no clamps?|put to rest)\b",
    re.IGNORECASE,
)
"""What stands in no docstring, comment, message or page: each had a private meaning."""

LINES, ARGUMENTS = 50, 9
KERNELS = "pcsim/engines/jit/kernels/"
COMPILED = {"jit", "njit", "inline", "kernel", "vectorize"}

SAME_STEM = {
    "__init__": "every room has one",
    "session": "the session of an engine, whose folder names the engine",
    "snapshot": "how the session of an engine takes its state out and back",
    "losses": "kernels have the names of what they compile",
    "convolution": "kernels have the names of what they compile",
    "pooling": "kernels have the names of what they compile",
    "sliding": "kernels have the names of what they compile",
    "squares": "kernels have the names of what they compile",
}
"""File names that two rooms may share, with the reason."""

INNER_IMPORTS = {
    "pcsim/__init__.py": "`import pcsim` loads a name when it is first used",
    "pcsim/__main__.py": "Ctrl-C is taken from the first moment, before the rest is imported",
    "pcsim/run/result.py": "a run is opened without the engines that its ledger needs",
    "pcsim/cli.py": "a command imports what it runs, so that `--help` is quick",
    "pcsim/bench/cold.py": "it measures how long these imports take",
}
"""Modules that import modules of pcsim within functions, with the reason."""


def room(file):
    return str(Path(file).parent)


ROOMS = sorted({room(file) for file in TREES})


def word_parts(name):
    """Return the words that a name is made of, in lower case, ordinary phrases left out."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    for phrase in ORDINARY:
        spaced = spaced.replace(phrase, "")
    return spaced.strip("_").split("_")


def names(tree):
    """Yield (line, name) of each class, function, field, attribute and module-level name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        if isinstance(node, ast.ClassDef | ast.Module):
            yield from assigned(node.body)


def assigned(body):
    """Yield (line, name) of what is assigned in a class or a module, also under an ``if``."""
    for statement in body:
        if isinstance(statement, ast.If):
            yield from assigned([*statement.body, *statement.orelse])
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for target in targets:
                yield from ((one.lineno, one.id) for one in ast.walk(target) if isinstance(one, ast.Name))


def test_parts_of_a_name():
    assert word_parts("_ErrorBank") == word_parts("ERROR_BANK") == ["error", "bank"]
    assert word_parts("__post_init__") == ["post", "init"]


@pytest.mark.parametrize("place", ROOMS)
def test_no_private_word_is_a_name(place):
    bad = []
    for file in (file for file in TREES if room(file) == place):
        for line, name in [(0, Path(file).stem), *names(TREES[file])]:
            if PRIVATE.intersection(word_parts(name)) or name.strip("_") in CLASSES:
                bad.append(f"{file}:{line}: {name}")
    assert not bad, "\n".join(bad)


def columns(tree):
    """Yield the plain strings that head the columns of a table."""
    for node in ast.walk(tree):
        called = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
        if isinstance(node, ast.Call) and re.search(r"Table$|^columns$|^add_column$", called):
            for argument in node.args:
                for one in ast.walk(argument):
                    if isinstance(one, ast.Constant) and isinstance(one.value, str):
                        yield one.lineno, one.value


def test_no_private_word_heads_a_column():
    heads = [(file, line, head) for file, tree in TREES.items() for line, head in columns(tree)]
    assert len(heads) > 20
    bad = [
        f"{file}:{line}: {head}"
        for file, line, head in heads
        if {part.rstrip("s") for part in re.findall("[a-z]+", head.lower())} & (PRIVATE | {"post"})
    ]
    assert not bad, "\n".join(bad)


def prose(file):
    """Yield (line, text) of each comment, and of each string that is more than a word."""
    for token in tokenize.generate_tokens(io.StringIO(SOURCES[file]).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from ((node.lineno + number, line) for number, line in enumerate(node.value.split("\n")))


@pytest.mark.parametrize("place", [*ROOMS, *TEXTS])
def test_no_private_word_is_in_prose(place):
    lines = [(file, line, text) for file in SOURCES if room(file) == place for line, text in prose(file)]
    lines += [(place, line, text) for line, text in enumerate(TEXTS.get(place, "").split("\n"), 1)]
    bad = [f"{file}:{line}: {text.strip()}" for file, line, text in lines if IN_PROSE.search(text)]
    assert not bad, "\n".join(bad)


def functions(tree):
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def is_compiled(file, function):
    """Return whether a function is a compiled kernel: what lies among them, or is compiled by its decorator."""
    return file.startswith(KERNELS) or any(
        set(re.findall(r"\w+", ast.unparse(decorator).split("(")[0])) & COMPILED
        for decorator in function.decorator_list
    )


@pytest.mark.parametrize("place", ROOMS)
def test_functions_fit_on_a_screen(place):
    bad = [
        f"{file}:{function.lineno}: {function.name} has {lines} lines"
        for file in TREES
        if room(file) == place
        for function in functions(TREES[file])
        if (lines := function.end_lineno - function.lineno + 1) > LINES
    ]
    assert not bad, "\n".join(bad)


def arguments(function):
    given = function.args
    extra = [one for one in (given.vararg, given.kwarg) if one is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *extra]


@pytest.mark.parametrize("place", ROOMS)
def test_functions_have_few_arguments(place):
    bad = [
        f"{file}:{function.lineno}: {function.name} has {len(arguments(function))} arguments"
        for file in TREES
        if room(file) == place
        for function in functions(TREES[file])
        if len(arguments(function)) > ARGUMENTS and not is_compiled(file, function)
    ]
    assert not bad, "\n".join(bad)


def test_no_two_modules_have_one_name():
    stems = defaultdict(list)
    for file in TREES:
        stems[Path(file).stem].append(file)
    assert {stem: files for stem, files in stems.items() if len(files) > 1 and stem not in SAME_STEM} == {}


def test_modules_of_pcsim_are_imported_where_a_reader_looks_for_them():
    bad = [
        f"{file}:{statement.lineno}: {ast.unparse(statement)}"
        for file, tree in TREES.items()
        if file not in INNER_IMPORTS
        for function in functions(tree)
        for statement in ast.walk(function)
        if isinstance(statement, ast.Import | ast.ImportFrom) and re.search(r"\bpcsim\b", ast.unparse(statement))
    ]
    assert not bad, "\n".join(bad)
