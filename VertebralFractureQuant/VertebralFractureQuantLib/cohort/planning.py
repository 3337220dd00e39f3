"""The plan of a cohort: every scan in a folder tree or a manifest, with the name of its case.

In a folder tree each image file is a scan, and so is each DICOM study, wherever its files lie; which of its series is
measured is decided by `imaging.dicom_choice` when it is read. A file that is empty, or that cannot be read, is a
damaged DICOM file if it is named like one. Every file is accounted for: it belongs to a scan, or it is counted by kind
as passed over.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import VFQError
from ..imaging.dicom_header import EXTENSIONS, extension
from ..imaging.dicom_identity import Identity, identify
from ..report.names import IMAGE_SUFFIXES, case_names
from .manifest import SUFFIXES, read_manifest
from .sources import files_of, signature
from .state import FILE_NAME, Planned

Names = Literal["auto", "file", "hash"]

READERS = 16  # threads: reading many small files waits for the disk or the network
NO_RECORD = "analysis.json"  # marks a folder that this program wrote


@dataclass(frozen=True)
class Plan:
    """The scans of a source, and what in it is none.

    Attributes
    ----------
    scans : in the order of their names.
    passed_over : number of files that are no scans, by kind.
    patients : patient's id for each case that was read from DICOM, for the key file; never stored.
    covariates : names of the columns of the manifest that are carried through.
    """

    scans: tuple[Planned, ...]
    passed_over: dict[str, int] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    covariates: tuple[str, ...] = ()


def plan(
    source: Path, output: Path, salt: bytes, names: Names = "auto", known: Mapping[str, str] | None = None
) -> Plan:
    """Return the plan of a folder tree, a manifest (.csv, .parquet), or a single scan.

    Parameters
    ----------
    output : the folder of the cohort; it may lie in the source.
    salt : secret with which names are hashed.
    names : "hash" hashes all names; "auto" those of DICOM studies, while image files keep theirs; "file" none.
    known : names that image files had in an earlier plan, by path; they keep them.

    VFQError `not_found`, `bad_manifest`, `nothing_to_analyze`.
    """
    if not source.exists():
        raise VFQError("not_found", f"There is no file or folder {source.name!r}. Check the path.")
    source = Path(os.path.abspath(source))
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return _from_manifest(source)
    found = _tree(source, Path(os.path.abspath(output)))
    scans = [*_images(found, source, salt, names, known or {}), *_studies(found, salt, names), *_problems(found, salt)]
    if not scans:
        raise VFQError(
            "nothing_to_analyze",
            f"{source.name!r} contains no scan: {sum(found.others.values())} files are neither images nor DICOM. Give "
            "a folder of NIfTI, NRRD, MetaImage or DICOM files, or a manifest (.csv, .parquet).",
        )
    patients = {_hashed_name(salt, one): one.patient_id for one in found.identities()}
    return Plan(tuple(sorted(scans, key=lambda one: one.name)), dict(found.others), patients)


@dataclass
class _Tree:
    """The contents of a folder tree; `studies` by (study, folder if the study is unknown)."""

    images: list[Path] = field(default_factory=list)
    studies: dict[tuple[str, str], list[Path]] = field(default_factory=dict)
    of: dict[tuple[str, str], Identity] = field(default_factory=dict)
    unreadable: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def identities(self) -> Iterable[Identity]:
        """Return one identity for each study."""
        return self.of.values()


def _tree(source: Path, output: Path) -> _Tree:
    found = _Tree()
    files = _walk(source, output, found) if source.is_dir() else [source]
    found.images = [path for path in files if path.name.lower().endswith(IMAGE_SUFFIXES)]
    rest = [path for path in files if not path.name.lower().endswith(IMAGE_SUFFIXES)]
    with ThreadPoolExecutor(READERS) as readers:
        identities = list(readers.map(_identified, rest, chunksize=64))
    _sort(found, rest, identities)
    return found


def _identified(path: Path) -> Identity | Literal["unreadable"] | None:
    try:
        return identify(path)
    except (OSError, VFQError):
        return "unreadable"


def _walk(source: Path, output: Path, found: _Tree) -> list[Path]:
    """List the files below `source`; linked folders are followed once, and folders of results are left out."""
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()

    for here, folders, names in os.walk(
        source, followlinks=True, onerror=lambda error: found.unreadable.append(Path(error.filename))
    ):
        status = os.stat(here)
        again = (status.st_dev, status.st_ino) in seen and status.st_ino
        seen.add((status.st_dev, status.st_ino))
        if again or Path(here) == output or NO_RECORD in names or FILE_NAME in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(here, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _sort(found: _Tree, files: Sequence[Path], identities: Sequence[Identity | Literal["unreadable"] | None]) -> None:
    """Put DICOM files into their studies; those without a study go with all studies that have files beside them."""
    beside: defaultdict[Path, set[tuple[str, str]]] = defaultdict(set)
    stray: list[Path] = []
    held = zip(files, identities, strict=True)
    named = {(path.parent, extension(path)) for path, one in held if isinstance(one, Identity) and one.study}
    for path, identity in zip(files, identities, strict=True):
        lost = identity == "unreadable" or identity == Identity("", "", "")
        if identity is None or (lost and not _named_like_dicom(path, named)):
            found.others[path.suffix.lower()[:12] or "no suffix"] += 1
        elif identity == "unreadable" or not identity.study:
            stray.append(path)
        else:
            key = (identity.study, "")
            found.studies.setdefault(key, []).append(path)
            found.of[key] = max(found.of.get(key, identity), identity, key=lambda one: bool(one.patient))
            beside[path.parent].add(key)
    for path in stray:
        for key in sorted(beside[path.parent]) or [("", str(path.parent))]:
            found.studies.setdefault(key, []).append(path)


def _named_like_dicom(path: Path, beside: Collection[tuple[Path, str]]) -> bool:
    """True if a file has a name that DICOM files have: in general, or (folder, extension) `beside` it."""
    usual = extension(path) == "" or path.name.lower().endswith(EXTENSIONS)
    return usual or (path.parent, extension(path)) in beside


def _images(found: _Tree, source: Path, salt: bytes, names: Names, known: Mapping[str, str]) -> list[Planned]:
    if names == "hash":
        given = {path: f"i-{hashed(salt, str(path.relative_to(source.parent)), 16)}" for path in found.images}
    else:
        given = {path: known[str(path)] for path in found.images if str(path) in known}
        taken = {name.lower() for name in given.values()}
        fresh = [path for path in found.images if path not in given]
        given |= {path: _free(name, taken) for path, name in zip(fresh, case_names(fresh), strict=True)}
    return [Planned(given[path], str(path), signature(files_of(path))) for path in found.images]


def _free(name: str, taken: set[str]) -> str:
    free, n = name, 1
    while free.lower() in taken:
        n += 1
        free = f"{name}-{n}"
    taken.add(free.lower())
    return free


def _studies(found: _Tree, salt: bytes, names: Names) -> list[Planned]:
    scans, taken = [], {path.name.lower() for path in found.images} if names == "file" else set()
    for key, files in sorted(found.studies.items(), key=lambda item: str(item[1][0])):
        folder = Path(os.path.commonpath([path.parent for path in files]))
        if names == "file":
            name = _free(case_names([folder])[0], taken)
        elif key in found.of:
            name = _hashed_name(salt, found.of[key])
        else:
            name = f"x-{hashed(salt, key[1], 16)}"
        paths = sorted(files)
        scans.append(Planned(name, str(folder), signature(paths), tuple(map(str, paths))))
    return scans


def _problems(found: _Tree, salt: bytes) -> list[Planned]:
    """Return a case for each folder that cannot be read, so that it is listed among the failures."""
    failure = VFQError("folder_not_readable", "The folder cannot be read. Change its permissions, or leave it out.")
    problem = failure.code, failure.message
    return [
        Planned(f"x-{hashed(salt, str(folder), 16)}", str(folder), "", problem=problem) for folder in found.unreadable
    ]


def _hashed_name(salt: bytes, one: Identity) -> str:
    """Return the name of a DICOM study: a hash of its patient, and one of the study; see `hashed`."""
    patient = hashed(salt, one.patient or one.study, 12)
    return f"{patient}-{hashed(salt, one.study, 6)}"


def hashed(salt: bytes, text: str, digits: int) -> str:
    """Return hexadecimal digits of the HMAC-SHA-256 of `text`: without the salt, nobody can try out texts."""
    return hmac.new(salt, text.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:digits]


def _from_manifest(source: Path) -> Plan:
    manifest = read_manifest(source)
    scans = []
    for name, path, covariates in manifest.rows:
        whole = Path(os.path.abspath(os.path.join(source.parent, path)))
        scans.append(Planned(name, str(whole), signature(files_of(whole)), covariates=covariates))
    return Plan(tuple(scans), covariates=manifest.covariates)
