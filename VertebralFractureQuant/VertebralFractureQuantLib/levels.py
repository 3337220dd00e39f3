"""The names of the vertebrae, from cranial to caudal, as plain data; naming a found vertebra is left to others.

Variants exist: some people have a thirteenth thoracic (T13) or a sixth lumbar (L6) vertebra, some lack T12 or L5.
"""

from __future__ import annotations

from collections.abc import Sequence

CERVICAL = tuple(f"C{i}" for i in range(1, 8))
THORACIC = tuple(f"T{i}" for i in range(1, 14))
LUMBAR = tuple(f"L{i}" for i in range(1, 7))
SACRAL = tuple(f"S{i}" for i in range(1, 6))
LEVELS = (*CERVICAL, *THORACIC, *LUMBAR, *SACRAL)

# What may follow where a level's usual successor is not the only one.
_BRANCHES = {"T11": ("T12", "L1"), "T12": ("L1", "T13"), "L4": ("L5", "S1"), "L5": ("S1", "L6")}


def level_index(level: str) -> int:
    """Place of `level` in `LEVELS`, 0 for C1. ValueError for a name that is none."""
    try:
        return LEVELS.index(level)
    except ValueError:
        raise ValueError(f"{level!r} is no vertebra's name; names run C1..C7, T1..T13, L1..L6, S1..S5") from None


def followers(level: str) -> tuple[str, ...]:
    """The levels that may lie next below `level`, the usual one first; none below S5."""
    after = LEVELS[level_index(level) + 1 :][:1]
    return _BRANCHES.get(level, after)


def next_level(level: str) -> str | None:
    """The level that usually lies next below `level`; None below S5."""
    return next(iter(followers(level)), None)


def previous_level(level: str) -> str | None:
    """The level that usually lies next above `level`; None above C1."""
    above = LEVELS[: level_index(level)]
    usual = [upper for upper in above if next_level(upper) == level]
    return next(iter([*usual, *above[-1:]]), None)


def is_anatomical_order(levels: Sequence[str | None]) -> bool:
    """Whether neighbours, cranial first, may follow each other without a gap; unknown ones (None) fit anywhere."""
    pairs = zip(levels, levels[1:], strict=False)
    return all(b in followers(a) for a, b in pairs if a is not None and b is not None)
