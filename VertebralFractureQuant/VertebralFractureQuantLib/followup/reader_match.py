"""A match of two examinations that a reader corrected: where the matched vertebrae lie in each scan.

A place is the middle of the six points, patient RAS mm. It finds a vertebra again after points were moved, or others
were added or deleted. The match itself is an offset of the two columns against each other, as in `matching`. How it is
kept on disk is left to `report.matches`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import VFQError
from ..spine.record import SpineAnalysis, Vertebra
from .matching import Pairs, column_of, pairs_at

NEAR_MM = 10.0  # vertebrae whose middles are nearer than this are the same
LEAST_SHARE = 0.5  # of the places must be found again, at one offset
DIGITS = 16  # of a scan's digest
AGAIN = "Match the vertebrae again beside this prior in vfq review, or remove the file."

Place = tuple[float, float, float]


@dataclass(frozen=True)
class ReaderMatch:
    """A reader's match of a scan with a prior one.

    Attributes
    ----------
    reader : who corrected it.
    places : the places (prior, current) of each matched vertebra.
    """

    reader: str
    places: tuple[tuple[Place, Place], ...]


@dataclass(frozen=True)
class KeptMatches:
    """The matches that readers corrected in one reading: by the `scan_digest` of the prior scan.

    An entry that cannot be used is the reason. `problem` is why nothing of the file can be used; None if it can.
    """

    entries: Mapping[str, ReaderMatch | VFQError] = field(default_factory=dict)
    problem: VFQError | None = None

    def of(self, prior: str) -> ReaderMatch | None:
        """Return the match with the scan `prior`; None without one. VFQError `bad_matches` if it cannot be used."""
        found = self.problem or self.entries.get(prior)
        if isinstance(found, VFQError):
            raise found
        return found

    def only_others(self, prior: str) -> bool:
        """True if readers corrected matches with other scans, and none with the scan `prior`."""
        return prior not in self.entries and any(isinstance(e, ReaderMatch) for e in self.entries.values())


def scan_digest(analysis: SpineAnalysis) -> str:
    """Return what tells a scan from others: a hash of its size, its place and its automatic curve."""
    place = [] if analysis.ijk_to_ras is None else np.round(analysis.ijk_to_ras, 3).tolist()
    facts = json.dumps([list(analysis.shape or ()), place, np.round(analysis.curve, 2).tolist()])
    return hashlib.sha256(facts.encode()).hexdigest()[:DIGITS]


def places_of(prior: Sequence[Vertebra], current: Sequence[Vertebra], pairs: Pairs) -> tuple[tuple[Place, Place], ...]:
    """Return the places (prior, current) of matched vertebrae."""
    before, now = _middles(prior), _middles(current)
    return tuple((_place(before[i]), _place(now[j])) for i, j in pairs)


def reader_pairs(match: ReaderMatch, prior: Sequence[Vertebra], current: Sequence[Vertebra]) -> Pairs:
    """Return the pairs of a reader's match: indices in both columns, cranial first.

    VFQError `bad_matches` if the vertebrae at its places are gone, or no longer belong to one offset.
    """
    before, now = column_of(prior).slots, column_of(current).slots
    middles = _middles(prior), _middles(current)
    found = [tuple(map(_nearest, middles, pair)) for pair in match.places]
    apart = [int(before[i] - now[j]) for i, j in found if i is not None and j is not None]
    offset = max(set(apart), key=apart.count, default=0)
    if not apart or apart.count(offset) < LEAST_SHARE * len(match.places):
        raise VFQError(
            "bad_matches",
            f"matches.json: the match that {match.reader} set no longer fits the vertebrae: {apart.count(offset)} of "
            f"{len(match.places)} pairs are found again. {AGAIN}",
        )
    return pairs_at(before, now, offset)


def _middles(vertebrae: Sequence[Vertebra]) -> np.ndarray:
    return np.array([v.keypoints for v in vertebrae], float).reshape(-1, 3, 2, 3).mean((1, 2))


def _place(middle: np.ndarray) -> Place:
    r, a, s = (round(float(mm), 2) for mm in middle)
    return r, a, s


def _nearest(middles: np.ndarray, place: Place) -> int | None:
    """Return the vertebra `(n, 3)` at a place; None if there is none."""
    away = np.linalg.norm(middles - place, axis=1)
    return int(away.argmin()) if len(away) and away.min() <= NEAR_MM else None
