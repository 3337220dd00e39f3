"""Which vertebra of the open study is which of a prior one: found automatically, or corrected by the reader.

Vertebrae are named by their ids, which never change. A match is an offset of the two columns against each other, so it
holds when vertebrae are added, deleted or named. It is the match of `vfq compare`; `report.matches` keeps a reader's.
Plain data, without MRML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import VFQError
from ..followup.comparison import Examination, aligned, compare, other_weights
from ..followup.matching import column_of
from ..followup.reader_match import KeptMatches, ReaderMatch, places_of, reader_pairs, scan_digest
from ..spine.record import Vertebra

__all__ = ["Column", "Match", "found", "kept_as", "restored", "scan_digest", "shifted"]
# What the reader can do here about a code of `compare`, in place of its own message.
PROBLEMS = {
    "other_patient": "Sizes, shapes and images of the vertebrae are unlikely to be those of one patient, so nothing is "
    "compared. Check that both scans are of the same patient, and their voxel spacing. If they are, match the "
    "vertebrae yourself (< and >).",
    "alignment_uncertain": "It is not certain which vertebrae belong together, so nothing is compared. Match them "
    "yourself (< and >).",
}


@dataclass(frozen=True, eq=False)
class Column:
    """The vertebrae of a study, cranial first: their ids, and their places along the spine, 1 apart without a gap."""

    ids: tuple[str, ...]
    slots: tuple[int, ...]

    @classmethod
    def of(cls, vertebrae: Mapping[str, Vertebra]) -> Column:
        """Return the column of vertebrae by their ids, cranial first."""
        return cls(tuple(vertebrae), tuple(int(slot) for slot in column_of(list(vertebrae.values())).slots))


@dataclass(frozen=True)
class Match:
    """Which vertebrae belong together.

    Attributes
    ----------
    pairs : id in the open study -> id in the prior one.
    problem : why nothing may be compared, as a sentence; "" if it may.
    doubt : what to check although vertebrae are compared, as a sentence; else "".
    reader : who corrected the match; "" if it was found automatically.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    reader: str = ""
    doubt: str = ""

    @property
    def holds(self) -> bool:
        """True if vertebrae are compared: the match is certain, or a reader made it."""
        return bool(self.pairs) and (not self.problem or bool(self.reader))


def found(prior: Examination, current: Examination, before: Column, now: Column) -> Match:
    """Match two examinations; `before` and `now` are the columns of their records.

    VFQError `same_study`. Whatever else keeps them from being compared is the match's `problem`.
    """
    problem, doubts = "", []
    current = replace(current, kept=KeptMatches())  # a reader's match is `restored` from the study as it is
    try:
        compared = compare(prior, current)
        pairs = compared.alignment.pairs
        if compared.scale_doubtful:
            doubts.append(f"All sizes differ by {100 * compared.scale:+.0f} %. Check the voxel spacing of both scans.")
    except VFQError as error:
        if error.code == "same_study":
            raise
        problem = PROBLEMS.get(error.code, error.message)
        pairs = aligned(prior, current).pairs
    if networks := other_weights(prior.analysis, current.analysis):
        doubts.append(
            f"Both scans were measured with different weights of {' and '.join(networks)}; small differences may come "
            "from that."
        )
    return Match({now.ids[j]: before.ids[i] for i, j in pairs}, problem, doubt=" ".join(doubts))


def kept_as(match: Match, before: Mapping[str, Vertebra], now: Mapping[str, Vertebra]) -> ReaderMatch:
    """Return a reader's match as it is kept; `before` and `now` are the vertebrae of both studies by id."""
    olds, news = list(before), list(now)
    pairs = tuple((olds.index(p), news.index(c)) for c, p in match.pairs.items() if c in now and p in before)
    return ReaderMatch(match.reader, places_of(list(before.values()), list(now.values()), pairs))


def restored(match: Match, kept: ReaderMatch, before: Mapping[str, Vertebra], now: Mapping[str, Vertebra]) -> Match:
    """Return `match` as a reader corrected it earlier. VFQError `bad_matches` if that no longer fits the vertebrae."""
    olds, news = list(before), list(now)
    pairs = reader_pairs(kept, list(before.values()), list(now.values()))
    return replace(match, pairs={news[j]: olds[i] for i, j in pairs}, reader=kept.reader)


def offset_of(pairs: Mapping[str, str], before: Column, now: Column) -> int | None:
    """Return how many places lower the pairs lie in the prior column; None if no pair is left."""
    old, new = (dict(zip(each.ids, each.slots, strict=True)) for each in (before, now))
    apart = [old[p] - new[c] for c, p in pairs.items() if p in old and c in new]
    return max(set(apart), key=apart.count) if apart else None


def at_offset(offset: int, before: Column, now: Column) -> dict[str, str]:
    """Return the pairs if the open study's places lie `offset` lower in the prior column."""
    there = dict(zip(before.slots, before.ids, strict=True))
    return {c: there[slot + offset] for c, slot in zip(now.ids, now.slots, strict=True) if slot + offset in there}


def followed(match: Match, before: Column, now: Column) -> Match:
    """Return the match of the columns as they are now, at the same offset."""
    offset = offset_of(match.pairs, before, now)
    pairs = {} if offset is None else at_offset(offset, before, now)
    return replace(match, pairs=pairs)


def shifted(match: Match, by: int, before: Column, now: Column, reader: str) -> Match:
    """Return the match with each vertebra `by` places lower in the prior study, as a `reader` corrects it.

    Without any pair, the columns begin with one end in common. VFQError `no_level_in_common` beyond the last pair.
    """
    offset = offset_of(match.pairs, before, now)
    if offset is None and before.slots and now.slots:
        offset = before.slots[-1] - now.slots[0] + 1 if by < 0 else before.slots[0] - now.slots[-1] - 1
    pairs = {} if offset is None else at_offset(offset + by, before, now)
    if not pairs:
        raise VFQError("no_level_in_common", "No vertebra would be left in both scans, so the match stays as it is.")
    return replace(match, pairs=pairs, reader=reader)
