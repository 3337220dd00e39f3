"""What the library needs beyond what 3D Slicer bundles: what is missing, what it takes to fetch it, and fetching it.

A requirement is a line of the module's `Resources/requirements.txt`, which alone knows the version ranges; this file
knows what each is for and how large it is. Asking imports none of the packages. Nothing is downloaded but by `install`,
which a face calls after a person has agreed to `offer`. torch comes through Slicer's PyTorch extension, which finds the
build for the GPU that is there; the rest through Slicer's pip.
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

Purpose = Literal["analysis on CPU", "analysis on GPU", "pictures"]

# By purpose the sets of packages of which one is enough. The set that lacks fewest packages is offered, the first of
# several.
SERVING: dict[Purpose, tuple[tuple[str, ...], ...]] = {
    "analysis on CPU": (("openvino", "shapely"), ("torch", "safetensors", "shapely")),
    "analysis on GPU": (("torch", "safetensors", "shapely"),),
    "pictures": (("matplotlib",),),
}
# What is downloaded with all that it brings along and Slicer lacks, rounded up; torch with its CUDA libraries.
MEGABYTES = {"openvino": 60, "shapely": 3, "torch": 3000, "safetensors": 1, "matplotlib": 25}

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
REQUESTER = "Vertebral Fracture Quantification"

TORCH_ADVICE = (
    "The module PyTorch Utils shows what went wrong with torch, and installs other builds. Or choose the device CPU."
)

Pip = Callable[[Sequence[str]], object]
TorchInstaller = Callable[[str], object]


@dataclass(frozen=True)
class Requirement:
    """A package, the versions that will do (">=2.4,<2.14"), and what it is wanted for."""

    name: str
    specifier: str
    purpose: Purpose

    def __str__(self) -> str:
        return self.name + self.specifier


def purpose_of(device: str) -> Purpose:
    """What an analysis on the device "auto" | "cpu" | "cuda" | "mps" needs; "auto" is content with the CPU."""
    return "analysis on CPU" if device in ("auto", "cpu") else "analysis on GPU"


def missing(*purposes: Purpose) -> tuple[Requirement, ...]:
    """What is not installed, or not in a version that will do, for these purposes (all, if none is named)."""
    ranges = specifiers()
    lacking: dict[str, Requirement] = {}
    for purpose in purposes or get_args(Purpose):
        choices = [[Requirement(name, ranges[name], purpose) for name in names] for names in SERVING[purpose]]
        fewest = min(([r for r in choice if not is_installed(r)] for choice in choices), key=len)
        lacking |= {r.name: r for r in fewest if r.name not in lacking}
    return tuple(lacking.values())


def specifiers(path: Path = REQUIREMENTS) -> dict[str, str]:
    """The version range of each package in a requirements file; comments stand on lines of their own."""
    from packaging.requirements import Requirement as Parsed

    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    parsed = [Parsed(line) for line in lines if line and not line.startswith("#")]
    return {p.name: str(p.specifier) for p in parsed}


def is_installed(requirement: Requirement) -> bool:
    """Whether the package is there in a version of the range; it is not imported."""
    from packaging.specifiers import SpecifierSet

    try:
        version = importlib.metadata.version(requirement.name)
        found = importlib.util.find_spec(requirement.name) is not None
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return found and SpecifierSet(requirement.specifier).contains(version, prereleases=True)


def offer(needed: Sequence[Requirement]) -> str:
    """What is missing, what for, and what fetching it takes, in sentences for a dialog; "" where nothing is missing."""
    if not needed:
        return ""
    named = ", ".join(f"{r.name} ({r.purpose})" for r in needed)
    size = sum(MEGABYTES[r.name] for r in needed)
    amount = f"{size / 1000:.0f} GB" if size >= 1000 else f"{size} MB"
    return (
        f"Python packages that are not installed are needed: {named}. About {amount} will be downloaded from the "
        "internet and installed into Slicer's Python."
    )


def install(needed: Sequence[Requirement], pip: Pip | None = None, torch: TorchInstaller | None = None) -> None:
    """Download and install what is needed; at once usable, but where an older version was imported already.

    `pip` gets requirements ("openvino>=2025.0"), `torch` the versions that will do; Slicer's, where not given.
    VFQError `missing_dependency` that says what to do, where the installation fails.
    """
    from_extension = [r for r in needed if r.name == "torch"]
    from_pip = [r for r in needed if r.name != "torch"]
    if from_extension:  # first: nothing is downloaded where the extension is not there
        with _telling_what_to_do(from_extension):
            (torch or pytorch_extension)(from_extension[0].specifier)
    if from_pip:
        with _telling_what_to_do(from_pip):
            (pip or slicer_pip)([str(r) for r in from_pip])
    importlib.invalidate_caches()
    still = [r for r in needed if not is_installed(r)]
    if still:
        raise _failure(still, "it is still not there")


@contextmanager
def _telling_what_to_do(needed: Sequence[Requirement]) -> Iterator[None]:
    try:
        yield
    except VFQError:
        raise
    except Exception as error:  # each installer fails in ways of its own
        raise _failure(needed, (str(error).strip().splitlines() or [type(error).__name__])[0]) from error


def slicer_pip(requirements: Sequence[str]) -> None:
    """Install by Slicer's pip, with its progress dialog where it has one; the person has been asked already."""
    try:
        from slicer.packaging import pip_ensure
    except ImportError:  # Slicer before 5.11
        from slicer.util import pip_install

        pip_install(list(requirements))
        return
    pip_ensure(list(requirements), prompt_install=False, requester=REQUESTER)


def pytorch_extension(specifier: str) -> None:
    """Install torch by Slicer's PyTorch extension, in the build for this computer's GPU and driver."""
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise VFQError(
            "missing_dependency",
            "PyTorch is installed by Slicer's PyTorch extension, which is not there. Install PyTorch from the "
            "Extensions manager and start Slicer again, or choose the device CPU.",
        ) from error
    PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=specifier)


def _failure(needed: Sequence[Requirement], reason: str) -> VFQError:
    failed = (
        f"{', '.join(r.name for r in needed)} could not be installed ({reason}). Look at the connection to the "
        "internet and try again, or start Slicer again if it was just installed."
    )
    advice = TORCH_ADVICE if any(r.name == "torch" for r in needed) else _offline_advice([str(r) for r in needed])
    return VFQError("missing_dependency", f"{failed} {advice}")


def _offline_advice(wanted: Sequence[str]) -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    quoted = " ".join(f'"{w}"' for w in wanted)
    from_folder = ["--no-index", "--find-links", "FOLDER", *wanted]
    return (
        f"Without internet: on a computer that has it, with the same system and Python {python}, run: pip download "
        f"{quoted} --dest wheels. Bring the folder, and in Slicer's Python console run: "
        f"slicer.util.pip_install({from_folder!r})"
    )
