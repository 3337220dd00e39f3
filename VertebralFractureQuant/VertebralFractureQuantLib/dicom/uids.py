"""UIDs that follow from content: the same state of a case has the same UIDs, so an archive never holds it twice."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

from .. import __version__
from ..spine.record import SpineAnalysis
from ..spine.record_json import to_json


def derived_uid(*parts: str) -> str:
    """Return the UID that follows from texts: "2.25." and a UUID made of their SHA-256 (PS3.5 B.2)."""
    digest = sha256("\0".join(parts).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=5).int}"


def state_of(analysis: SpineAnalysis) -> str:
    """Return a hash, 64 hexadecimal digits, of all that a record says, without its name and computing times."""
    told = to_json(replace(analysis, case="", timing_s={}))
    return sha256(json.dumps([__version__, told], sort_keys=True).encode()).hexdigest()
