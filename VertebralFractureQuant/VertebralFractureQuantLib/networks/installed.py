"""Weights that a user installed: a folder of the user's with a folder `NAME/` for each set, and which one is in use.

A set holds the weights of one or several roles, as `vfq train` writes them, each with its model card; the shipped
weights take the place of roles that it lacks. Sets are copied in as a whole or not at all, and verified first.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import VFQError
from ..spine.record import ModelStamp
from . import weights

ROLES = ("localizer", "refiner", "detector")
SHIPPED = "shipped"
IN_USE = "in-use"  # a file with the name of the set in use
SUFFIXES = (".safetensors", ".json", ".onnx")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class WeightsSet:
    """Weights that can be chosen: name, folder, the identities of its networks, and whether it is in use."""

    name: str
    folder: Path
    stamps: tuple[ModelStamp, ...]
    in_use: bool


def config_folder() -> Path:
    """Return the folder of the user's settings for this program on this platform."""
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Application Support"
    else:
        parent = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return parent / "vertebral-fracture-quant"


def names() -> list[str]:
    """Return the names of the sets that can be chosen, the shipped one first."""
    folder = _home()
    there = sorted(p.name for p in folder.iterdir() if p.is_dir() and NAME.fullmatch(p.name)) if folder.is_dir() else []
    return [SHIPPED, *there]


def listed() -> list[WeightsSet]:
    """Return the sets that can be chosen. VFQError `bad_weights` if a model card cannot be read."""
    used = name_in_use()
    return [WeightsSet(name, folder_of(name), _stamps(folder_of(name)), name == used) for name in names()]


def in_use() -> WeightsSet:
    """Return the set in use. VFQError `unknown_weights` if it is gone, `bad_weights` if its files are damaged."""
    name = name_in_use()
    return WeightsSet(name, folder_of(name), _stamps(folder_of(name)), True)


def networks_of(chosen: WeightsSet) -> tuple[ModelStamp, ...]:
    """Return the networks that measure with a set: its own, and the shipped ones of the roles that it lacks.

    VFQError `bad_weights`.
    """
    own = {stamp.role: stamp for stamp in chosen.stamps}
    return tuple(own.get(stamp.role, stamp) for stamp in _stamps(weights.weights_folder()))


def are_same(some: Iterable[ModelStamp], others: Iterable[ModelStamp]) -> bool:
    """Return True if these are the same networks, whichever engines compute them."""
    one, other = ({(stamp.role, stamp.sha256) for stamp in stamps} for stamps in (some, others))
    return one == other


def set_of(stamps: Sequence[ModelStamp]) -> str | None:
    """Return the name of the set with which these networks measured; None if it is no longer there, or was changed."""
    for name in names():
        with suppress(VFQError):
            if are_same(networks_of(WeightsSet(name, folder_of(name), _stamps(folder_of(name)), False)), stamps):
                return name
    return None


def name_in_use() -> str:
    """Return the name of the set in use: `shipped` unless another one was chosen."""
    try:
        return (_home() / IN_USE).read_text(encoding="utf-8").strip() or SHIPPED
    except FileNotFoundError:
        return SHIPPED
    except (OSError, UnicodeDecodeError) as error:
        raise VFQError("bad_weights", f"It cannot be read which weights are in use. {_CHOOSE}") from error


def folder_of(name: str) -> Path:
    """Return the folder of a set. VFQError `unknown_weights`."""
    if name == SHIPPED:
        return weights.weights_folder()
    folder = _home() / name
    if not NAME.fullmatch(name) or not folder.is_dir():
        message = f"No weights are installed as {name!r}. Installed are {', '.join(names())}."
        raise VFQError("unknown_weights", f"{message} {_CHOOSE}")
    return folder


def chosen(wanted: str | None = None) -> Path | None:
    """Return the folder of the weights to use; None for the shipped ones if they are in use.

    wanted : the name of a set, or a folder with files ROLE.safetensors; None for the set in use.
    VFQError `unknown_weights` if the set in use is gone, `bad_weights`.
    """
    if wanted is None:
        name = name_in_use()
        return None if name == SHIPPED else folder_of(name)
    return folder_of(wanted) if wanted in names() else Path(wanted)


def use(name: str) -> None:
    """Remember a set as the one in use, if its files fit their model cards.

    VFQError `unknown_weights`, `bad_weights`, `output_not_writable`.
    """
    _stamps(folder_of(name))
    partial = _home() / f".{uuid.uuid4().hex[:8]}.partial"
    with _writing():
        _home().mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(name + "\n", encoding="utf-8")
            partial.replace(_home() / IN_USE)
        finally:
            partial.unlink(missing_ok=True)


def verify(folder: Path) -> tuple[ModelStamp, ...]:
    """Load every network of a set, check it against its model card, and return the identities.

    VFQError `bad_weights` for files that are damaged, replaced, of another network or format, or without a card.
    ImportError if all files fit their cards, but torch or safetensors is not installed to load them.
    """
    paths = _weights_in(folder)
    stamps = tuple(weights.stamp_of(role, path) for role, path in paths.items())
    for role, path in paths.items():
        weights.load_onnx(role, path)
    for role, path in paths.items():  # needs torch, which a program that only measures may lack
        weights.load(role, path=path)
    return stamps


def install(source: Path, name: str | None = None, overwrite: bool = False) -> WeightsSet:
    """Verify weights and copy them into the user's folder; a set of the same networks stays as it is.

    source : a file ROLE.safetensors with its model card beside it, or a folder of such files.
    name : of the set; by default that of the folder.

    Raises
    ------
    VFQError
        `not_found`; `bad_weights`; `unknown_weights` for a name that a set cannot have; `output_exists` if another set
        has the name and `overwrite` is false; `output_not_writable`.
    """
    paths = _given(source)
    name = name or next(iter(paths.values())).resolve().parent.name
    if not NAME.fullmatch(name) or name in (SHIPPED, IN_USE):
        message = f"{name!r} cannot be the name of weights: 1 to 64 letters, digits, dots and dashes, but not shipped."
        raise VFQError("unknown_weights", f"{message} Give one with --name.")
    target = _home() / name
    fresh = _home() / f".{uuid.uuid4().hex[:8]}.partial"
    with _writing():
        try:
            fresh.mkdir(parents=True)
            for path in paths.values():
                for suffix in SUFFIXES:
                    if path.with_suffix(suffix).exists():
                        shutil.copyfile(path.with_suffix(suffix), fresh / f"{path.stem}{suffix}")
            stamps = verify(fresh)  # what was copied, as the source may change
            if not target.exists() or _stamps_or_none(target) != stamps:
                _replace(fresh, target, overwrite)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return WeightsSet(name, target, stamps, name_in_use() == name)


_CHOOSE = "Choose with vfq weights use NAME, or vfq weights use shipped."


def _replace(fresh: Path, target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        message = f"Other weights are installed as {target.name!r}. Give another --name, or use --overwrite."
        raise VFQError("output_exists", message)
    old = target.with_name(f".{uuid.uuid4().hex[:8]}.partial")
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _given(source: Path) -> dict[str, Path]:
    """Return the weights to install by their role."""
    if not source.exists():
        raise VFQError("not_found", f"There is no file or folder {source.name!r}. Check the path.")
    if source.is_dir():
        return _weights_in(source)
    if source.suffix != ".safetensors" or source.stem not in ROLES:
        message = f"{source.name} is no file ROLE.safetensors, where ROLE is one of {', '.join(ROLES)}."
        raise VFQError("bad_weights", f"{message} Give a file as vfq train writes it; other formats are never loaded.")
    return {source.stem: source}


def _weights_in(folder: Path) -> dict[str, Path]:
    found = {role: folder / f"{role}.safetensors" for role in ROLES}
    found = {role: path for role, path in found.items() if path.is_file()}
    if not found:
        message = f"The folder {folder.name!r} has no file ROLE.safetensors, where ROLE is one of {', '.join(ROLES)}."
        raise VFQError("bad_weights", f"{message} Give the folder with the weights.")
    return found


def _stamps(folder: Path) -> tuple[ModelStamp, ...]:
    return tuple(weights.stamp_of(role, path) for role, path in _weights_in(folder).items())


def _stamps_or_none(folder: Path) -> tuple[ModelStamp, ...] | None:
    with suppress(VFQError):
        return _stamps(folder) if verify(folder) else None
    return None


def _home() -> Path:
    return config_folder() / "weights"


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"The weights cannot be written ({error.strerror}). Check {_home()} and the free space."
        raise VFQError("output_not_writable", message) from error
