"""Names of cases: made from the names of the inputs, safe on every file system, different from each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LONGEST_NAME = 100  # bytes; file systems allow 255, but the parent's name and a suffix are added
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def case_names(inputs: Sequence[Path]) -> list[str]:
    """Return a name for each input; no two are equal, and each can be the name of a folder.

    "scan" is the plain name. Inputs of the same name in different folders become "anna_scan" and "bob_scan", whichever
    other inputs are given. If that is not enough, numbers follow: "scan-2", "scan-3", ...
    """
    own = [case_name(path) for path in inputs]
    shared = {name for name, count in Counter(map(str.lower, own)).items() if count > 1}
    names = [
        f"{case_name(path.resolve().parent)}_{name}" if name.lower() in shared else name
        for path, name in zip(inputs, own, strict=True)
    ]
    taken: set[str] = set()
    return [_free_name(name, taken) for name in names]


def free_case_name(case: str, folder: Path) -> str:
    """Return `case`, or "case-2", "case-3", ... if `folder` already contains that name."""
    there = {path.name.lower() for path in folder.iterdir()} if folder.is_dir() else set()
    return _free_name(case, there)


def case_name(path: Path) -> str:
    """Return the name of the input without image suffix; characters that a file system may refuse become "_"."""
    name = path.name or path.resolve().name
    suffix = next((s for s in IMAGE_SUFFIXES if name.lower().endswith(s)), "")
    stem = name[: len(name) - len(suffix)]
    safe = re.sub(r"[^\w.+-]+", "_", stem).lstrip(".").rstrip(".")
    return safe.encode()[:LONGEST_NAME].decode(errors="ignore") or "case"


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or `name-2`, `name-3`, ..., and add it to `taken`; some file systems ignore case."""
    candidate, count = name, 1
    while candidate.lower() in taken:
        count += 1
        candidate = f"{name}-{count}"
    taken.add(candidate.lower())
    return candidate
