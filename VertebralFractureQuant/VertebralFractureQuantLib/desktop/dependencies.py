"""Python packages that the library needs and 3D Slicer does not bundle: find the missing ones and install them.

The module's `Resources/requirements.txt` holds the version ranges; this file holds each package's purpose and download
size. Checking imports none of the packages. Only `install` downloads, and a face calls it only after the user has
agreed to `offer`. Slicer's PyTorch extension installs torch, in the build for the computer's GPU; Slicer's pip installs
the rest.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import VFQError

Purpose = Literal[
    "analysis on CPU", "analysis on GPU", "pictures", "report", "report as PDF", "DICOM objects", "cohort"
]

# For each purpose, sets of packages; one complete set is enough. The set that lacks fewest is offered, else the first.
SERVING: dict[Purpose, tuple[tuple[str, ...], ...]] = {
    "analysis on CPU": (("openvino", "shapely"), ("torch", "safetensors", "shapely")),
    "analysis on GPU": (("torch", "safetensors", "shapely"),),
    "pictures": (("matplotlib",),),
    "report": (("jinja2", "matplotlib"),),
    "report as PDF": (("jinja2", "matplotlib", "reportlab"),),
    "DICOM objects": (("highdicom",),),
    "cohort": (("polars", "itables", "bokeh"),),
}
# Download size with all dependencies that Slicer lacks, rounded up; torch includes its CUDA libraries.
MEGABYTES = {
    "openvino": 60, "shapely": 3, "torch": 3000, "safetensors": 1, "matplotlib": 25, "jinja2": 1, "reportlab": 6,
    "highdicom": 15, "polars": 60, "itables": 3, "bokeh": 25,
}  # fmt: skip

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
REQUESTER = "Vertebral Fracture Quantification"

TORCH_ADVICE = (
    "Use the module PyTorch Utils to see what failed or to install another build of torch, or choose the device CPU."
)

Pip = Callable[[Sequence[str]], object]
TorchInstaller = Callable[[str], object]


@dataclass(frozen=True)
class Requirement:
    """A package, its accepted versions (e.g. ">=2.4,<2.14") and its purpose."""

    name: str
    specifier: str
    purpose: Purpose

    def __str__(self) -> str:
        return self.name + self.specifier


def purpose_of(device: str) -> Purpose:
    """Return the purpose of an analysis on "auto" | "cpu" | "cuda" | "mps"; for "auto" the CPU is enough."""
    return "analysis on CPU" if device in ("auto", "cpu") else "analysis on GPU"


def missing(*purposes: Purpose) -> tuple[Requirement, ...]:
    """Return the packages that are not installed in an accepted version, for these purposes (default: all)."""
    ranges = specifiers()
    lacking: dict[str, Requirement] = {}
    for purpose in purposes or get_args(Purpose):
        choices = [[Requirement(name, ranges[name], purpose) for name in names] for names in SERVING[purpose]]
        fewest = min(([r for r in choice if not is_installed(r)] for choice in choices), key=len)
        lacking |= {r.name: r for r in fewest if r.name not in lacking}
    return tuple(lacking.values())


def specifiers(path: Path = REQUIREMENTS) -> dict[str, str]:
    """Return the version range of each package in a requirements file. Comments must be on separate lines."""
    from packaging.requirements import Requirement as Parsed

    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    parsed = [Parsed(line) for line in lines if line and not line.startswith("#")]
    return {p.name: str(p.specifier) for p in parsed}


def is_installed(requirement: Requirement) -> bool:
    """Return True if the package is installed in an accepted version. The package is not imported."""
    from packaging.specifiers import SpecifierSet

    try:
        version = importlib.metadata.version(requirement.name)
        found = importlib.util.find_spec(requirement.name) is not None
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return found and SpecifierSet(requirement.specifier).contains(version, prereleases=True)


def offer(needed: Sequence[Requirement]) -> str:
    """Return a text for the user: what is missing, its purpose and its download size; "" if nothing is missing."""
    if not needed:
        return ""
    named = ", ".join(f"{r.name} ({r.purpose})" for r in needed)
    size = sum(MEGABYTES[r.name] for r in needed)
    amount = f"{size / 1000:.0f} GB" if size >= 1000 else f"{size} MB"
    return (
        f"Python packages are missing: {named}. About {amount} will be downloaded from the internet and installed into "
        "Slicer's Python."
    )


def agreed(*purposes: Purpose) -> bool:
    """Offer to install what these purposes need; return True if all of it is there now.

    VFQError `missing_dependency` if the installation fails.
    """
    import slicer

    needed = missing(*purposes)
    if needed and slicer.util.confirmOkCancelDisplay(offer(needed)):
        with slicer.util.WaitCursor():
            install(needed)
        needed = ()
    return not needed


def install(needed: Sequence[Requirement], pip: Pip | None = None, torch: TorchInstaller | None = None) -> None:
    """Download and install packages. They are usable at once, unless an older version was already imported.

    Parameters
    ----------
    needed : the packages to install.
    pip : called with requirements such as "openvino>=2025.0"; default: Slicer's pip.
    torch : called with the accepted versions of torch; default: Slicer's PyTorch extension.

    Raises
    ------
    VFQError
        `missing_dependency`, with what to do, if the installation fails.
    """
    from_extension = [r for r in needed if r.name == "torch"]
    from_pip = [r for r in needed if r.name != "torch"]
    if from_extension:  # first, so that nothing is downloaded if the extension is missing
        with _failing_with_advice(from_extension):
            (torch or pytorch_extension)(from_extension[0].specifier)
    if from_pip:
        with _failing_with_advice(from_pip):
            (pip or slicer_pip)([str(r) for r in from_pip])
    importlib.invalidate_caches()
    still = [r for r in needed if not is_installed(r)]
    if still:
        raise _failure(still, "still missing after the installation")


@contextmanager
def _failing_with_advice(needed: Sequence[Requirement]) -> Iterator[None]:
    try:
        yield
    except VFQError:
        raise
    except Exception as error:  # each installer raises different exceptions
        raise _failure(needed, (str(error).strip().splitlines() or [type(error).__name__])[0]) from error


def slicer_pip(requirements: Sequence[str]) -> None:
    """Install with Slicer's pip, with its progress dialog if it has one. The user has agreed before."""
    try:
        from slicer.packaging import pip_ensure
    except ImportError:  # Slicer before 5.11
        from slicer.util import pip_install

        pip_install(list(requirements))
        return
    from packaging.requirements import Requirement as Parsed

    pip_ensure([Parsed(each) for each in requirements], prompt_install=False, requester=REQUESTER)


def pytorch_extension(specifier: str) -> None:
    """Install torch with Slicer's PyTorch extension, in the build for this computer's GPU and driver."""
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise VFQError(
            "missing_dependency",
            "torch cannot be installed, because Slicer's PyTorch extension is missing. Install PyTorch from the "
            "Extensions manager and restart Slicer, or choose the device CPU.",
        ) from error
    PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=specifier)


def _failure(needed: Sequence[Requirement], reason: str) -> VFQError:
    failed = (
        f"{', '.join(r.name for r in needed)} could not be installed ({reason}). Check the internet connection and try "
        "again. If the package was just installed, restart Slicer."
    )
    advice = TORCH_ADVICE if any(r.name == "torch" for r in needed) else _offline_advice([str(r) for r in needed])
    return VFQError("missing_dependency", f"{failed} {advice}")


def _offline_advice(wanted: Sequence[str]) -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    quoted = " ".join(f'"{w}"' for w in wanted)
    from_folder = ["--no-index", "--find-links", "FOLDER", *wanted]
    return (
        f"Without internet: on a connected computer with the same operating system and Python {python}, run: pip "
        f"download {quoted} --dest wheels. Copy the folder here, and in Slicer's Python console run: "
        f"slicer.util.pip_install({from_folder!r})"
    )
