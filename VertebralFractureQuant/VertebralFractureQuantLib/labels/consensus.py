"""The consensus of the readers of a case: mean or median of their key points, and where a third reader must decide.

Every reader's own reading stays as it is. A vertebra is to be adjudicated where the readers' grades differ, where two
of them put a point more than 2 mm apart, where their levels differ, or where not all of them marked it. An adjudicated
reading (mode "adjudication") decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..whole import visible
from .dataset import Case, Dataset
from .files import locked, read_json, write_json
from .groups import Group, grouped, marked
from .reading import Label, LabelReading
from .store import Slot, final_readings

SCHEMA = "vfq-consensus/1"
FOLDER = "consensus"
CONSENSUS = "consensus"
ADJUDICATION = "adjudication"
FAR_MM = 2.0
TAKEN_MM = 0.02  # rounding on the way through a scene
SAME_VERTEBRA_MM = 10.0  # between the middles of two labels of one vertebra
METHODS = ("mean", "median")
DOUBTS = ("grade", "points", "level", "not_all_readers", "not_assessable")


def groups_of(dataset: Dataset, readings: Sequence[LabelReading], case: Case) -> list[Group]:
    """Return the vertebrae of a case that the protocol asks for, by the readers of these readings."""
    sources = {r.reader: marked(*_columns(r)) for r in readings}
    excluded = {r.reader: frozenset(v.level for v in r.labels if v.not_assessable and v.level) for r in readings}
    wanted = dataset.protocol.get("levels")
    found = grouped(case.name, case.patient, sources, excluded)
    return [g for g in found if not wanted or g.level_of(list(g.members)) in (*wanted, None)]


def _columns(reading: LabelReading) -> tuple[list[str | None], list[np.ndarray]]:
    return [v.level for v in reading.measured], [np.asarray(v.keypoints) for v in reading.measured]


def doubts(group: Group, readers: Sequence[str]) -> tuple[str, ...]:
    """Return why a third reader must decide on a vertebra, as some of `DOUBTS`; none if only one reader read it."""
    if len(readers) < 2:
        return ()
    there = [group.members[r] for r in readers if r in group.members]
    judged = {
        "grade": len({m.measured.grade for m in there}) > 1,
        "points": spread_mm(group, readers) > FAR_MM,
        "level": len({m.level for m in there if m.level}) > 1,
        "not_all_readers": len(there) + len(group.excluded) < len(readers),
        "not_assessable": bool(group.excluded),
    }
    return tuple(name for name, found in judged.items() if found)


def disagreement(group: Group, readers: Sequence[str]) -> tuple[float, float, float]:
    """Return how far readers differ on a vertebra: steps between grades, difference of G, distance of a point in mm.

    A reader who did not mark it, without calling it not assessable, counts as grade 0. The greatest is the worst.
    """
    there = [group.members[r] for r in readers if r in group.members]
    missed = len(there) + len(group.excluded) < len(readers)
    grades = [m.grade for m in there] + [0] * missed
    ratios = [m.measured.genant_ratio for m in there]
    return max(grades) - min(grades), max(ratios) - min(ratios), spread_mm(group, readers)


def spread_mm(group: Group, readers: Sequence[str]) -> float:
    """Return the largest distance of a point between two readers, in the vertebra's plane, mm; 0 for one reader."""
    points = np.stack([group.members[r].points for r in readers if r in group.members])
    apart = points[:, None] - points
    normal = group.normal_of()
    flat = apart - (apart @ normal)[..., None] * normal
    return float(np.linalg.norm(flat, axis=-1).max())


def write_consensus(dataset: Dataset, method: str) -> int:
    """Write `consensus/CASE.json` for each case with a final first reading; return how many vertebrae are in doubt.

    Raises
    ------
    VFQError
        As `final_readings`; `output_not_writable`, `dataset_in_use`.
    """
    found = by_case(dataset, final_readings(dataset))
    made = {case: document(dataset, dataset.cases[case], readings, method) for case, readings in found.items()}
    with locked(dataset.folder):
        for case, data in made.items():
            write_json(_folder(dataset) / f"{case}.json", data)
    return sum(bool(v["doubts"]) for data in made.values() for v in data["vertebrae"])


def write_adjudicated(dataset: Dataset, case: str) -> Path:
    """Write the consensus of one case after its adjudication, and return the file.

    The method is that of the file that is there, else the mean. VFQError as `write_consensus`.
    """
    path = _folder(dataset) / f"{case}.json"
    method = str(read_json(path, SCHEMA)["method"]) if path.exists() else METHODS[0]
    readings = by_case(dataset, final_readings(dataset))[case]
    with locked(dataset.folder):
        write_json(path, document(dataset, dataset.cases[case], readings, method))
    return path


def by_case(dataset: Dataset, final: Mapping[Slot, LabelReading], session: int = 1) -> dict[str, list[LabelReading]]:
    """Return the final readings (`final_readings`) of each case, by the order of the readers."""
    slots = {name: [(reader, name, session) for reader in dataset.readers] for name in dataset.cases}
    found = {name: [final[slot] for slot in own if slot in final] for name, own in slots.items()}
    return {name: readings for name, readings in found.items() if readings}


def document(dataset: Dataset, case: Case, readings: Sequence[LabelReading], method: str) -> dict[str, Any]:
    """Return the JSON object of schema `vfq-consensus/1` of one case."""
    deciding = [r.reader for r in readings if r.mode == ADJUDICATION]
    readers = [r.reader for r in readings if r.reader not in deciding]
    masks = letters(case.name, readers, dataset.seed)
    dropped = [v for r in readings if r.reader in deciding for v in r.labels if v.not_assessable]
    vertebrae = []
    for group in groups_of(dataset, readings, case):
        decided = [r for r in deciding if r in group.members]
        if not decided and any(_is_about(label, group) for label in dropped):
            continue
        sources = decided or [r for r in readers if r in group.members]
        own = replace(group, excluded=group.excluded & {*readers})
        vertebrae.append(
            {
                "level": group.level_of(sources),
                "keypoints": group.mean_points(sources, method).tolist(),
                "readers": [masks[r] for r in readers if r in group.members],
                "adjudicated": bool(decided),
                "decision": _decision(group, decided, masks) if decided else None,
                "doubts": [] if decided else list(doubts(own, readers)),
            }
        )
    return {
        "schema": SCHEMA,
        "case": case.name,
        "space": "RAS_mm",
        "method": method,
        "readings": [
            {"reader": r.reader, "called": masks.get(r.reader), "version": r.version, "mode": r.mode} for r in readings
        ],
        "vertebrae": vertebrae,
        "not_assessable": [{"level": v.level, "reason": v.not_assessable} for v in dropped],
    }


def _is_about(label: Label, group: Group) -> bool:
    """True if an adjudicator's label that is not assessable is about this vertebra: by its place, or by its level."""
    if label.center is None:
        return label.level == group.level_of(list(group.members))
    middle = group.mean_points(list(group.members)).mean((0, 1))
    return bool(np.linalg.norm(middle - label.center) < SAME_VERTEBRA_MM)


def _decision(group: Group, decided: Sequence[str], masks: Mapping[str, str]) -> str:
    """Return whose points an adjudication took: a reader's letter, "mean", or "own"."""
    points = group.mean_points(decided)
    there = [r for r in masks if r in group.members]
    taken = {masks[r]: group.members[r].points for r in sorted(there, key=lambda r: masks[r])}
    taken |= {"mean": group.mean_points(there)} if there else {}
    return next((name for name, each in taken.items() if np.abs(each - points).max() < TAKEN_MM), "own")


def read_consensus(dataset: Dataset) -> list[LabelReading]:
    """Return the written consensus of each case, as readings by "consensus". VFQError as `read_json`."""
    return [_as_reading(read_json(path, SCHEMA)) for path in visible(_folder(dataset).glob("*.json"))]


def _folder(dataset: Dataset) -> Path:
    return dataset.folder / FOLDER


def _as_reading(data: dict[str, Any]) -> LabelReading:
    labels = tuple(Label(v["level"], np.array(v["keypoints"], float)) for v in data["vertebrae"])
    dropped = [Label(v["level"], not_assessable=v["reason"]) for v in data.get("not_assessable", ())]
    return LabelReading(str(data["case"]), CONSENSUS, state="final", labels=(*labels, *dropped))


def letters(case: str, readers: Sequence[str], seed: int) -> dict[str, str]:
    """Return a letter for each reader, in an order that differs between cases, so that nobody is recognised."""
    key = int.from_bytes(hashlib.sha256(f"{seed} {case}".encode()).digest()[:8], "little")
    order = np.random.default_rng(key).permutation(len(readers))
    return {readers[i]: chr(ord("A") + n) if n < 26 else f"R{n + 1}" for n, i in enumerate(order)}
