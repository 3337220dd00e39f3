"""The scans on which methods are compared (`methods`), with what is known of them, and their analyses.

Phantoms have exact truth, exact masks, and the heights before each fracture; real scans have references of six points.
Each analysis is kept as a file, so that an interrupted evaluation can be resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..spine.genant import heights
from ..spine.keypoints import centers
from ..spine.record import SpineAnalysis
from ..spine.record_json import from_json, to_json
from ..spine.reference import Reference, read_reference
from ..whole import visible
from .graders import GRADERS, REPORTED
from .method_figures import Truth
from .picture_losses import PictureLoss, keep_losses, kept_losses, picture_losses
from .problems import Problem, named
from .spines import Spine

if TYPE_CHECKING:
    from ..analysis import Models
    from ..imaging.ct import CTVolume
    from ..methods.healthy_picture import Healer

FIRST_SEED = 950_000  # no training and no choice of weights used these phantoms
FRACTURE_RATE = 0.25
MEASURING = ("analysis", "imaging", "methods", "networks", "spine")  # rooms whose code decides what is measured
PICTURES = "synthetic-picture"  # folder of the losses by synthetic pictures


@dataclass(frozen=True)
class Scanned:
    """One scan: its name, what reads or paints it, and a text that changes with its voxels."""

    name: str
    read: Callable[[], CTVolume]
    made_from: str

    @cached_property
    def ct(self) -> CTVolume:
        """The CT, read once; coded failures of `imaging.files.read_ct`."""
        return self.read()

    def forget(self) -> None:
        """Free the memory of the CT."""
        self.__dict__.pop("ct", None)


@dataclass(frozen=True)
class Subject:
    """One scan with its truth.

    Attributes
    ----------
    case : name of the case.
    source : the scan; several references may share one.
    truth : the true vertebrae.
    fractured : `(m,)` whether the phantom broke them.
    healthy_mm : `(m, 3)` heights before the fractures; nan where unknown.
    masks : key points that rules read from exact masks.
    """

    case: str
    source: Scanned
    truth: Spine
    fractured: np.ndarray
    healthy_mm: np.ndarray
    masks: dict[str, np.ndarray] = field(default_factory=dict)

    def known(self, thirds: bool = False) -> Truth:
        """Return the truth beside the points; losses at the key points, or means of the thirds of the depth."""
        before, now = self.healthy_mm, heights(self.truth.keypoints)
        if thirds:
            before, now = third_heights(before), third_heights(now)
        return Truth(GRADERS[REPORTED](self.truth).grade, self.fractured, 1 - now / before)


def third_heights(at_points: np.ndarray) -> np.ndarray:
    """Return the mean heights of the thirds `(..., 3)` of bodies whose heights at front, middle, back are `at_points`.

    The height along the depth is a parabola through the three.
    """
    ahead, middle, behind = np.moveaxis(np.asarray(at_points, float), -1, 0)
    slope, bend = (ahead - behind) / 2, (ahead + behind) / 2 - middle
    # Mean of x and of x^2 over a third of the depth, x from -1 behind to 1 in front.
    means = ((2 / 3, 13 / 27), (0.0, 1 / 27), (-2 / 3, 13 / 27))
    return np.stack([middle + slope * x + bend * square for x, square in means], -1)


def phantoms(count: int, folder: Path, seed: int = FIRST_SEED) -> Iterator[Subject]:
    """Yield `count` phantoms of the seeds from `seed` on; painted ones are kept in `folder`."""
    from ..phantom.masks import LINES, THIRDS, mask_keypoints
    from ..phantom.options import PhantomOptions
    from ..phantom.volume import phantom_anatomy, phantom_heights
    from .phantom_cache import cached_phantom, painted_by

    options = PhantomOptions(fracture_rate=FRACTURE_RATE, field_of_view="spine")
    for number in range(seed, seed + count):
        anatomy, truth = phantom_anatomy(number, options)
        if len(truth.levels) < 2:
            continue
        name, healthy = f"phantom-{number}", phantom_heights(number, replace(options, healed=True))
        yield Subject(
            name,
            Scanned(name, partial(cached_phantom, number, options, folder), painted_by()),
            _truth(name, truth.keypoints, truth.levels, [center for _, center in truth.partial]),
            np.array([kind is not None for kind in truth.fractures]),
            np.array([healthy[level] for level in truth.levels]),
            {
                "mask: thirds": mask_keypoints(anatomy, truth.levels, THIRDS),
                "mask: 15/50/85 %": mask_keypoints(anatomy, truth.levels, LINES),
            },
        )


def scan_of(name: str, path: Path) -> Scanned:
    """Return the scan in a file or a DICOM folder."""
    from ..imaging.files import read_ct

    held = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    state = [(p.stat().st_size, p.stat().st_mtime_ns) for p in held]
    return Scanned(name, lambda: read_ct(path), json.dumps(state if len(state) == 1 else [len(state), max(state)]))


def real_scans(folders: Sequence[Path], scans: Path, problems: list[Problem]) -> Iterator[Subject]:
    """Yield the scans with references of six points in `folders` whose CT is in `scans`.

    The others are added to `problems`.
    """
    from ..imaging.files import case_name

    for path in visible(p for folder in folders for p in folder.glob("*.json")):
        try:
            reference: Reference = read_reference(path)
        except VFQError as error:
            problems.append(Problem("wrong_schema", named(path), None, error.message))
            continue
        place = scans / reference.ct_file
        count = len(reference.keypoints)
        if count < 2:
            problems.append(Problem("no_vertebra", named(path), None, "The reference has fewer than two vertebrae."))
            continue
        if not place.exists():
            problems.append(Problem("no_scan", named(path), None, f"There is no {reference.ct_file} in {scans.name}."))
            continue
        yield Subject(
            reference.case,
            scan_of(case_name(place), place),
            _truth(reference.case, reference.keypoints, reference.levels, reference.partial),
            np.zeros(count, bool),
            np.full((count, 3), np.nan),
        )


def _truth(case: str, keypoints: np.ndarray, levels: Sequence[str | None], partial: Any) -> Spine:
    order = np.argsort(-centers(keypoints)[:, 2])
    assert (order == np.arange(len(order))).all()
    return Spine(case, case, keypoints, tuple(levels), np.reshape(partial, (-1, 3)).astype(float))


def analysis_of(scan: Scanned, method: str, networks: Models, folder: Path) -> SpineAnalysis:
    """Return the analysis of a scan: the file of an earlier run of the same code and networks on it, or a new one.

    A scan that cannot be read or measured has an analysis with the code of why.
    """
    from ..analysis import analyze

    path = folder / method / f"{scan.name}.json"
    key = _key(scan, [m.sha256 for m in networks.stamps])
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["evaluation"] == key:
            return from_json(data)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        record = analyze(scan.ct, networks)
    except VFQError as error:
        record = SpineAnalysis(scan.name, error.code, error.message, models=networks.stamps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**to_json(record), "evaluation": key}), encoding="utf-8")
    return record


def pictures_of(scan: Scanned, analysis: SpineAnalysis, healer: Healer, folder: Path) -> list[PictureLoss]:
    """Return the losses by synthetic pictures of an analysed scan, kept as analyses are."""
    path = folder / PICTURES / f"{scan.name}.json"
    key = _key(scan, [m.sha256 for m in analysis.models] + [healer.stamp.sha256])
    found = kept_losses(path, key)
    if found is None:
        found = picture_losses(healer, analysis, scan.ct)
        keep_losses(path, key, found)
    return found


def _key(scan: Scanned, networks: list[str]) -> dict[str, Any]:
    from .phantom_cache import code_of

    return {"scan": scan.made_from, "networks": networks, "code": code_of(*MEASURING)}
