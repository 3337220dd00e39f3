"""A reading: whose record of a case this is, what it began from, and who signed it.

Plain data beside the vertebrae of a record. Names are those that readers gave; times are UTC, ISO 8601. A signature
holds for the key points, levels and verdicts that were signed, of which it keeps a digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

ROLES = ("reader", "countersigner")
STARTS = ("automatic", "reading")
DIGITS = 2  # of a mm in a digest: smaller differences are rounding


@dataclass(frozen=True)
class Signature:
    """One signature.

    Attributes
    ----------
    reader, at : who signed, and when.
    role : "reader" for the first one who signed the reading, "countersigner" for all others.
    digest : the `content_digest` of what was signed.
    """

    reader: str
    at: str
    role: str  # of ROLES
    digest: str


@dataclass(frozen=True)
class Reading:
    """Whose reading a record is.

    Attributes
    ----------
    reader, begun_at : who began it, and when.
    begun_from : "automatic" for the automatic key points, "reading" for those of another reading.
    begun_from_reader : whose reading that was; else None.
    signatures : all signatures, first to last, also those that hold no longer.
    """

    reader: str
    begun_at: str
    begun_from: str = "automatic"  # of STARTS
    begun_from_reader: str | None = None
    signatures: tuple[Signature, ...] = ()

    def holding(self, digest: str) -> tuple[Signature, ...]:
        """Return the signatures that hold for a record with this `content_digest`."""
        return tuple(s for s in self.signatures if s.digest == digest)

    def signed(self, reader: str, at: str, digest: str) -> Reading:
        """Return the reading with one more signature; unchanged if this reader has signed the same content."""
        if any(s.reader == reader for s in self.holding(digest)):
            return self
        first = next((s.reader for s in self.signatures if s.role == "reader"), reader)
        role = "reader" if first == reader else "countersigner"
        return replace(self, signatures=(*self.signatures, Signature(reader, at, role, digest)))


def content_digest(vertebrae: Iterable[tuple[np.ndarray, str | None, str]]) -> str:
    """Return the SHA-256 of the vertebrae's key points `(3, 2, 3)` RAS mm, levels and verdicts, cranial first.

    It is that of the JSON text, without spaces, of [points rounded to 0.01 mm, level, verdict] for each vertebra.
    """
    rows = [[_rounded(points), level, review] for points, level, review in vertebrae]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def signatures_text(signatures: Sequence[Signature]) -> str:
    """Return "signed by A on 2026-01-31, counter-signed by B on 2026-02-01"; "" without any."""
    verbs = {"reader": "signed", "countersigner": "counter-signed"}
    return ", ".join(f"{verbs[s.role]} by {s.reader} on {s.at[:10]}" for s in signatures)


def _rounded(points: np.ndarray) -> list[object]:
    rounded: list[object] = (np.round(np.asarray(points, float), DIGITS) + 0.0).tolist()  # no minus zero
    return rounded
