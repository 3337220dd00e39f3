"""Stand-ins for package installation and sample data, with Slicer's signatures. They record each call and do nothing.

`slicer.packaging` is as in Base/Python/slicer/packaging.py, `SampleData` as in
Modules/Scripted/SampleData/SampleData.py.
"""

# ruff: noqa: N802, N803 (names of Qt and Slicer)

from __future__ import annotations

import types
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from .pythonqt import answers

installed: list[tuple[str, Any]] = []  # the function's name and its requirements
samples: list[dict[str, Any]] = []
categories: dict[str, str] = {}


def load_requirements(path: str | Path) -> list[Requirement]:
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(req: Any, _seen: Any = None) -> bool:
    return all(map(_satisfied, _requirements(req)))


def pip_ensure(
    requirements: Any,
    constraints: Any = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """Record the missing packages. RuntimeError if the test's answer declines."""
    missing = [str(each) for each in _requirements(requirements) if not _satisfied(each)]
    if missing and prompt_install and answers.get("pip_ensure") is False:
        raise RuntimeError("User declined package installation")
    if missing:
        _keep("pip_ensure", missing)
    return None if skip_packages is None else []


def pip_install(
    requirements: Any,
    constraints: Any = None,
    no_deps_requirements: Any = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    logCallback: Any = None,
    completedCallback: Any = None,
) -> None:
    _keep("pip_install", requirements)


def pip_install_before(requirements: Any) -> None:
    """Replace `slicer.util.pip_install` of a Slicer before 5.11."""
    if not isinstance(requirements, (str, list)):
        raise ValueError("pip_install requirement input must be string or list")
    _keep("pip_install", requirements)


def _keep(name: str, requirements: Any) -> None:
    installed.append((name, requirements))
    if callable(answers.get(name)):
        answers[name](requirements)


def _requirements(given: Any) -> list[Requirement]:
    each = given.split() if isinstance(given, str) else given if isinstance(given, list) else [given]
    return [Requirement(r) if isinstance(r, str) else r for r in each]


def _satisfied(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def packaging_module() -> types.ModuleType:
    made = types.ModuleType("slicer.packaging")
    for each in (load_requirements, pip_check, pip_ensure, pip_install):
        setattr(made, each.__name__, each)
    return made


class SampleDataLogic:
    """The functions of `SampleData` that modules call at start-up."""

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        categories[category] = title

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        samples.append(dict(locals()))


def sample_data_module() -> types.ModuleType:
    made = types.ModuleType("SampleData")
    made.SampleDataLogic = SampleDataLogic
    return made
