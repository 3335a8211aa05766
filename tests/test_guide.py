"""The guide works: its files are written, its commands run in their order, and what it shows is what they print."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app

GUIDE = (Path(pcsim.__file__).parent / "GUIDE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def commands(text):
    """Return (command, lines shown) of a block."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2].splitlines()) for part in parts]


def run(command):
    """Return what a command prints; only what asks for it by ``; echo $?`` may fail."""
    command, _, tail = command.partition("; echo ")
    command, _, target = command.partition(" > ")
    name, *arguments = shlex.split(command)
    assert name == "pcsim"
    result = CliRunner().invoke(app, arguments)
    assert tail or result.exit_code == 0, (command, result.output)
    if target:
        Path(target).write_text(result.stdout)
    return result.output + (f"{result.exit_code}\n" if tail else "")


def pattern(line):
    """Return a line as what it matches: ``...`` is any text, and spaces are those of a table of any width."""
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in re.sub(" +", " ", line.strip()).split("...")]
    return ".*".join(parts)


def assert_shown(printed, shown, command):
    """Assert that the lines shown are among those printed, whole and in their order."""
    left = iter(printed.splitlines())
    for line in shown:
        assert any(re.fullmatch(pattern(line), other.strip()) for other in left), (command, line, printed)


@pytest.fixture
def at_80_columns(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def test_the_guide_works_in_its_order(at_80_columns):
    assert {kind for kind, _ in BLOCKS} == {"yaml", "console", "pycon"}
    for kind, text in BLOCKS:
        if kind == "yaml":
            name = re.match(r"# (\w+\.yaml)\n", text)[1]
            Path(name).write_text(text, encoding="utf-8")
        elif kind == "console":
            for command, shown in commands(text):
                assert_shown(run(command), shown, command)
        else:
            found = doctest.DocTestParser().get_doctest(text, {}, "guide", "GUIDE.md", 0)
            assert doctest.DocTestRunner(verbose=False).run(found).failed == 0


def test_nothing_is_shown_that_is_not_tried():
    outside = re.sub(r"^```.*?^```$", "", GUIDE, flags=re.DOTALL | re.MULTILINE)
    assert outside.count("```") == 0
    tried = {command.split()[1] for kind, text in BLOCKS if kind == "console" for command, _ in commands(text)}
    assert {named.split()[1] for named in re.findall(r"`(pcsim [a-z][^`]*)`", outside)} <= tried | {"plan", "guide"}


def test_what_is_shown_must_be_printed():
    for shown in (["one", "two"], ["o...", "...o"], ["│ a   │ b...│"]):
        assert_shown("one\ntwo\n│ a │ b c │\n", shown, "")
    for shown in (["two", "one"], ["on"], ["one two"]):
        with pytest.raises(AssertionError):
            assert_shown("one\ntwo\n", shown, "")


def test_the_guide_is_printed_and_ships():
    assert CliRunner().invoke(app, ["guide"]).stdout == GUIDE
    root = Path(__file__).parents[1]
    assert '"GUIDE.md"' in (root / "pyproject.toml").read_text()
    assert "(pcsim/GUIDE.md)" in (root / "README.md").read_text()
