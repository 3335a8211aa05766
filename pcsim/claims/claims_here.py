"""Where claims are: scenarios with the key ``claim``, in the working folder's ``scenarios`` or beside the package."""

from __future__ import annotations

from pathlib import Path

from pcsim.documents import read
from pcsim.errors import nearest, wrong
from pcsim.run.provenance import PACKAGE

PATTERNS = ("*.yaml", "claims/*.yaml", "studies/*.yaml")


def claims_here() -> dict[str, Path]:
    """Return {name: file} of every claim that there is, by name; a file's name without its ending is the claim's."""
    here = Path("scenarios")
    folder = here if here.is_dir() else PACKAGE.parent / "scenarios"
    files = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem) if _is_claim(path)}


def _is_claim(path: Path) -> bool:
    return "\nclaim:" in path.read_text(encoding="utf-8") and "claim" in (read(path).entries or {})


def claim_file(name: str | Path) -> Path:
    """Return the file of a claim: a path as it is, else the one of that name; raises InputError where there is none."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    known = claims_here()
    if str(name) not in known:
        raise wrong((), f"there is no claim {str(name)!r}" + nearest(str(name), known, "pcsim list claims"))
    return known[str(name)]
