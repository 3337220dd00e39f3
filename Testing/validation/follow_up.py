"""Print how well two examinations of a phantom are compared: matches, new fractures, false new fractures.

    python Testing/validation/follow_up.py make FOLDER PATIENTS [FIRST_SEED]
    python Testing/validation/follow_up.py score FOLDER

`make` paints a first and three later examinations of each phantom (another scanner, field of view and posture, new
fractures; at least four vertebrae in common) and analyses them; it can be stopped and resumed. `score` compares each
first with each later examination. It also takes parts of them, as if the field of view were smaller, names the levels
of one examination one higher or lower, and compares examinations of different phantoms. Points are RAS mm.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.stats import beta
from VertebralFractureQuantLib.analysis import analyze, load_models
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import match
from VertebralFractureQuantLib.followup.comparison import Comparison, Examination, compare
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom
from VertebralFractureQuantLib.phantom.volume import FIELDS_OF_VIEW, _axes, _draw, _truth
from VertebralFractureQuantLib.report.comparison_files import read_examination
from VertebralFractureQuantLib.report.outputs import write_record, write_straightened
from VertebralFractureQuantLib.spine.genant import GRADES
from VertebralFractureQuantLib.spine.levels import LEVELS
from VertebralFractureQuantLib.spine.record import Vertebra

LATER, FEWEST = 3, 4
FRACTURE_RATE = 0.06  # in the first examination
SHIFTS = (0, 1, -1)
SAME_MM = 1.0  # heights as they are seen depend on the slices: on some scans a rim is hidden, which is a change


@dataclass(eq=False)
class Seen:
    """An examination with its truth: the level of each vertebra (None: not whole), and the truth of each level."""

    examination: Examination
    levels: tuple[str | None, ...]
    truth: dict[str, dict]

    def part(self, first: int, count: int, shift: int = 0) -> Seen:
        """Return `count` vertebrae from the `first` on, with names moved by `shift` levels."""
        some = slice(first, first + count)
        analysis = self.examination.analysis
        named = tuple(_renamed(v, shift) for v in analysis.vertebrae[some])
        return Seen(
            replace(self.examination, analysis=replace(analysis, vertebrae=named)), self.levels[some], self.truth
        )


def _renamed(vertebra: Vertebra, shift: int) -> Vertebra:
    def moved(name: str | None) -> str | None:
        place = LEVELS.index(name) + shift if name in LEVELS else -1
        return LEVELS[place] if 0 <= place < len(LEVELS) else None if shift else name

    shares = {moved(n): p for n, p in vertebra.level_probabilities.items()}
    return replace(vertebra, level=moved(vertebra.level), level_probabilities={n: p for n, p in shares.items() if n})


@dataclass
class Score:
    """Counts of one kind of pairs.

    Attributes
    ----------
    outcomes : how the comparisons ended: "ok" or a code.
    right, wrong : pairs of vertebrae that were matched rightly or not, in comparisons that ended "ok".
    spines_wrong : comparisons with a wrong pair.
    found, missed : new fractures that are at least moderate, with and without the verdict "new fracture".
    false, same : unchanged vertebrae that were called new, and all unchanged ones.
    better : unchanged vertebrae that were called better.
    """

    outcomes: Counter = field(default_factory=Counter)
    right: int = 0
    wrong: int = 0
    spines_wrong: int = 0
    found: int = 0
    missed: int = 0
    false: int = 0
    same: int = 0
    better: int = 0

    def add(self, prior: Seen, current: Seen) -> Comparison | None:
        """Compare two examinations and count."""
        try:
            comparison = compare(prior.examination, current.examination)
        except VFQError as error:
            self.outcomes[error.code] += 1
            return None
        self.outcomes["ok"] += 1
        pairs = [(prior.levels[i], current.levels[j]) for i, j in comparison.alignment.pairs]
        wrong = sum(a != b for a, b in pairs if a and b)
        self.right += sum(a == b for a, b in pairs if a and b)
        self.wrong += wrong
        self.spines_wrong += wrong > 0
        if not wrong:
            self._count_changes(prior, current, comparison)
        return comparison

    def _count_changes(self, prior: Seen, current: Seen, comparison: Comparison) -> None:
        for change in comparison.compared:
            level = prior.levels[change.prior or 0]
            if level is None or level not in prior.truth or level not in current.truth:
                continue
            before, now = prior.truth[level], current.truth[level]
            if before["fracture"] is None and now["fracture"] is not None:
                if GRADES.index(now["grade"]) >= 2:
                    # A vertebra that was mild by its own shape may be said to have progressed.
                    right = ("new fracture",) if before["grade"] == "normal" else ("new fracture", "progressed")
                    self.found += change.verdict in right
                    self.missed += change.verdict not in right
            elif before["fracture"] == now["fracture"] and np.abs(_heights(now) - _heights(before)).max() < SAME_MM:
                self.same += 1
                self.false += change.verdict in ("new fracture", "progressed")
                self.better += change.verdict == "better"

    def lines(self) -> Iterator[str]:
        """Yield the counts with 95 % intervals (Clopper & Pearson 1934)."""
        yield f"  outcomes: {dict(self.outcomes)}"
        yield f"  vertebrae matched rightly: {_share(self.right, self.right + self.wrong)}"
        if self.found + self.missed:
            yield f"  new fractures, moderate or severe, found: {_share(self.found, self.found + self.missed)}"
        if self.same:
            yield f"  unchanged vertebrae called new or progressed: {_share(self.false, self.same)}"
            yield f"  unchanged vertebrae called better: {_share(self.better, self.same)}"


def _heights(truth: dict) -> np.ndarray:
    return np.array(truth["heights_mm"])


def _share(k: int, n: int) -> str:
    if not n:
        return "none"
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return f"{k} of {n} = {100 * k / n:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def make(folder: Path, patients: int, first: int = 10) -> None:
    """Paint and analyse the examinations of `patients` phantoms."""
    models = load_models("cpu", None)
    for seed in range(first, first + patients):
        base = PhantomOptions(fracture_rate=FRACTURE_RATE, field_of_view=None if seed % 6 == 0 else "spine")
        place, made = folder / f"{seed:03d}", 0
        _one(place / "prior", seed, base, models)
        for later in range(1000 + seed, 9000 + seed, 97):
            options = replace(base, later=later)
            if made < LATER and len(_levels(seed, base) & _levels(seed, options)) >= FEWEST:
                _one(place / f"later{made}", seed, options, models)
                made += 1
        print(seed, flush=True)


def _levels(seed: int, options: PhantomOptions) -> set[str]:
    """Return the whole vertebrae in the field of view, without painting."""
    rng, anatomy, pixel, protocol = _draw(seed, options)
    view = options.field_of_view or str(rng.choice(list(FIELDS_OF_VIEW)))
    return set(_truth(seed, anatomy, protocol, _axes(rng, anatomy, view, pixel, protocol.slice_mm)).levels)


def _one(folder: Path, seed: int, options: PhantomOptions, models) -> None:
    if (folder / "analysis.json").exists():
        return
    ct, truth = make_phantom(seed, options)
    analysis = analyze(replace(ct, name=folder.name), models)
    folder.mkdir(parents=True, exist_ok=True)
    if analysis.status == "ok":
        write_straightened(analysis, ct, folder / "straightened.nrrd")
    (folder / "truth.json").write_text(json.dumps(truth.to_json()), encoding="utf-8")
    write_record(analysis, folder / "analysis.json")


def read(folder: Path) -> Seen | None:
    """Read an examination; None if its analysis failed or is not finished."""
    if not (folder / "analysis.json").exists():
        return None
    examination = read_examination(folder)
    truth = {v["level"]: v for v in json.loads((folder / "truth.json").read_text())["vertebrae"]}
    if examination.analysis.status != "ok" or not truth:
        return None
    found = np.array([v.keypoints for v in examination.analysis.vertebrae])
    levels: list[str | None] = [None] * len(found)
    matching = match(found, np.array([v["keypoints"] for v in truth.values()]))
    for i, j in matching.pairs:
        levels[i] = list(truth)[j]
    return Seen(examination, tuple(levels), truth)


def score(folder: Path) -> None:
    """Print the scores of all pairs in a folder."""
    patients = [
        [read(p) for p in sorted(one.iterdir(), key=lambda p: p.name != "prior")] for one in sorted(folder.iterdir())
    ]
    whole, named, parts, others = Score(), Score(), Score(), Score()
    rng = np.random.default_rng(0)
    for seen in patients:
        prior, *later = seen
        for current in filter(None, later if prior else ()):
            whole.add(prior, current)
            for shift in SHIFTS[1:]:
                named.add(prior, current.part(0, len(current.levels), shift))
            for _ in range(4):
                parts.add(prior, _overlapping(rng, prior, current))
    firsts = [seen[0] for seen in patients if seen and seen[0]]
    for one in firsts:
        for other in firsts:
            if one is not other and len(set(one.levels) & set(other.levels)) >= FEWEST:
                others.add(one, other)
    titles = ("first and later", "one of them named one level off", "parts of at least four in common", "two patients")
    for title, counted in zip(titles, (whole, named, parts, others), strict=True):
        print(title, *counted.lines(), sep="\n")


def _overlapping(rng: np.random.Generator, prior: Seen, current: Seen) -> Seen:
    """Return a part of `current` with four to six vertebrae that are in `prior`, named rightly or one level off."""
    shared = [i for i, level in enumerate(current.levels) if level in prior.levels]
    count = min(len(shared), int(rng.integers(4, 7)))
    first = shared[int(rng.integers(0, len(shared) - count + 1))]
    return current.part(first, count, int(rng.choice(SHIFTS)))


if __name__ == "__main__":
    what, place, *numbers = sys.argv[1:]
    make(Path(place), *map(int, numbers)) if what == "make" else score(Path(place))
