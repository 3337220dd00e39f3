"""Measure the engine of `vfq cohort run`: mixed inputs that are killed again and again, speed, and 100,000 cases.

    python Testing/validation/cohort.py inputs FOLDER [--count 200] [--kills 10]
    python Testing/validation/cohort.py speed SCAN FOLDER [--copies 12] [--workers 1 2]
    python Testing/validation/cohort.py scale FOLDER [--count 100000]

`inputs` writes phantoms as NIfTI and DICOM, thick slices, and files that are broken in each way, and runs them twice:
undisturbed, and killed at random times; the tables must be the same. `speed` compares a loop that calls the library
with cohorts of one and of two workers; nothing else should run. `scale` replaces the work by a stub, and measures
planning, state, tables and gallery. FOLDER must be new.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "VertebralFractureQuant")]

VFQ = [sys.executable, "-m", "VertebralFractureQuantLib.cli"]
BROKEN = ("empty", "cut", "text", "zeros", "not_ct", "two_dimensions", "no_spine", "few_slices")


def main() -> None:
    """Run one of the measurements, and print what it found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    inputs = kinds.add_parser("inputs")
    inputs.add_argument("folder", type=Path)
    inputs.add_argument("--count", type=int, default=200)
    inputs.add_argument("--kills", type=int, default=10)
    inputs.add_argument("--workers", type=int, default=2)
    inputs.set_defaults(measure=mixed_inputs)
    speed = kinds.add_parser("speed")
    speed.add_argument("scan", type=Path)
    speed.add_argument("folder", type=Path)
    speed.add_argument("--copies", type=int, default=12)
    speed.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    speed.set_defaults(measure=throughput)
    scale = kinds.add_parser("scale")
    scale.add_argument("folder", type=Path)
    scale.add_argument("--count", type=int, default=100_000)
    scale.set_defaults(measure=many_cases)
    wanted = parser.parse_args()
    wanted.folder.mkdir(parents=True)
    print(json.dumps(wanted.measure(wanted), indent=1))


# Mixed inputs, killed and resumed


def mixed_inputs(wanted: argparse.Namespace) -> dict[str, Any]:
    """Write the inputs, run them undisturbed, then killed at random times, and compare the tables."""
    source, quiet, killed = (wanted.folder / name for name in ("source", "quiet", "killed"))
    write_inputs(source, wanted.count)
    began = time.monotonic()
    subprocess.run(command(source, quiet, wanted.workers), check=False, stderr=subprocess.DEVNULL)
    took = time.monotonic() - began
    shown = kill_at_random(source, killed, wanted, took)
    same = {name: (quiet / name).read_bytes() == (killed / name).read_bytes() for name in TABLES}
    return {"inputs": wanted.count, "seconds_undisturbed": round(took, 1), **shown, "same_tables": same}


TABLES = ("vertebrae.csv", "patients.csv", "failures.csv")


def command(source: Path, output: Path, workers: int) -> list[str]:
    """The command of a user; names of files are hashed by a salt of each cohort, so files keep their names."""
    return [*VFQ, "cohort", "run", str(source), "--output", str(output), "--workers", str(workers), "--names", "file"]


def kill_at_random(source: Path, killed: Path, wanted: argparse.Namespace, took: float) -> dict[str, Any]:
    """Run until the end, killing everything at random times before."""
    kills, chance = 0, random.Random(0)
    while kills < wanted.kills:
        started = subprocess.Popen(
            command(source, killed, wanted.workers), start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            started.wait(chance.uniform(4.0, 4.0 + 1.5 * took / wanted.kills))
            break
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            kills += 1
    ended = subprocess.run(command(source, killed, wanted.workers), check=False, stderr=subprocess.DEVNULL)
    statuses = json.loads((killed / "run.json").read_text())["statuses"]
    return {"kills": kills, "exit_status": ended.returncode, "statuses": statuses}


def write_inputs(source: Path, count: int) -> None:
    """Write `count` inputs: a third phantoms as NIfTI or NRRD, a third as DICOM, the rest broken."""
    import numpy as np
    from VertebralFractureQuantLib.imaging.files import write_ct
    from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom

    source.mkdir()
    made = []
    for seed in range(min(6, max(2, count // 8))):
        spacing = (1.5, 5.0) if seed % 3 == 2 else (1.5, 2.5)
        made.append(make_phantom(seed, PhantomOptions(field_of_view="spine", spacing_mm=spacing))[0])
    for n in range(count):
        ct = made[n % len(made)]
        shifted = ct.ijk_to_ras.copy()
        shifted[:3, 3] += n  # so that no two scans are equal
        ct = replace(ct, ijk_to_ras=shifted)
        if n % 3 == 0:
            write_ct(ct, source / f"p{n:03}{('.nii.gz', '.nrrd', '.mha')[n % 9 // 3]}")
        elif n % 3 == 1:
            write_dicom(ct, source / "dicom" / f"d{n:03}", n)
        else:
            write_broken(source, n, BROKEN[n // 3 % len(BROKEN)], ct, np)


def write_dicom(ct: Any, folder: Path, n: int) -> None:
    """Write a study of one axial series, and a short one that is to be passed over; two studies belong to a patient."""
    import numpy as np

    folder.mkdir(parents=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.ijk_to_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    axes = (lps[:3, :3] / spacing).T[:2].ravel()
    for series, planes in (("1", range(len(ct.voxels))), ("2", range(0, len(ct.voxels), 20))):
        for k in planes:
            header = {
                "PatientID": f"patient {n // 6}", "StudyInstanceUID": f"1.2.{n}", "Modality": "CT",
                "SeriesInstanceUID": f"1.2.{n}.{series}", "SOPInstanceUID": f"1.2.{n}.{series}.{k}",
                "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "PixelSpacing": [float(spacing[1]), float(spacing[0])],
                "ImagePositionPatient": [round(float(x), 6) for x in (lps @ [0, 0, k, 1])[:3]],
                "ImageOrientationPatient": [round(float(x), 9) for x in axes],
            }  # fmt: skip
            write_slice(folder / f"{series}-{k:04}.dcm", ct.voxels[k], header)


def write_slice(path: Path, pixels: Any, header: dict[str, Any]) -> None:
    """Write one DICOM file of HU."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = header["SOPInstanceUID"]
    file = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    pixel = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "SamplesPerPixel": 1}
    size = {"Rows": pixels.shape[0], "Columns": pixels.shape[1], "PhotometricInterpretation": "MONOCHROME2"}
    scale = {"RescaleSlope": 1, "RescaleIntercept": 0, "SOPClassUID": CTImageStorage}
    for name, value in {**header, **pixel, **size, **scale}.items():
        setattr(file, name, value)
    file.PixelData = pixels.astype("<i2").tobytes()
    file.save_as(path, enforce_file_format=True)


def write_broken(source: Path, n: int, kind: str, ct: Any, np: Any) -> None:
    """Write one file that cannot be measured."""
    from VertebralFractureQuantLib.imaging.files import write_ct

    path = source / f"b{n:03}_{kind}.nii.gz"
    voxels = {
        "not_ct": (ct.voxels > 0).astype(np.int16),
        "no_spine": np.full_like(ct.voxels, -1000),
        "few_slices": ct.voxels[:2],
        "two_dimensions": ct.voxels[:1],
    }
    write_ct(replace(ct, voxels=voxels.get(kind, ct.voxels)), path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind not in voxels:
        path.write_bytes({"empty": b"", "text": b"no image\n" * 100, "zeros": bytes(4096)}[kind])


# Speed


def throughput(wanted: argparse.Namespace) -> dict[str, Any]:
    """Measure a scan by a loop that calls the library, and by cohorts of one and of more workers, alternating.

    Each is run with few and with `copies` copies: the difference is what a scan costs without the start.
    """
    ways = {"loop": 0, **{f"workers_{n}": n for n in wanted.workers}}
    spent = {count: {way: run_once(wanted, way, n, count) for way, n in ways.items()} for count in (FEW, wanted.copies)}
    table = {way: marginal(spent[FEW][way], spent[wanted.copies][way], wanted.copies - FEW) for way in ways}
    cpu, extras = {way: row["cpu_s_a_scan"] for way, row in table.items()}, cpu_of_outputs(wanted)
    first, *others = (f"workers_{n}" for n in wanted.workers)
    print_table(table)
    return {
        "scans": wanted.copies, **table, "cpu_s_of_outputs_a_scan": extras,
        "engine_cpu_share": round((cpu[first] - sum(extras.values())) / cpu["loop"] - 1, 3),
        "times_as_fast": {way: round(table[way]["scans_an_hour"] / table[first]["scans_an_hour"], 2) for way in others},
        "largest_process_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6, 2),
        "load_of_the_computer": os.getloadavg(),
    }  # fmt: skip


FEW = 2


def run_once(wanted: argparse.Namespace, way: str, workers: int, count: int) -> tuple[float, float]:
    """Return processor time and wall time of one run, in seconds."""
    source, output = wanted.folder / f"source_{count}", wanted.folder / f"{way}_{count}"
    if not source.exists():
        source.mkdir()
        for n in range(count):
            shutil.copy(wanted.scan, source / f"s{n}.nii.gz")
    loop = [sys.executable, "-c", LOOP, str(source), str(output)]
    began, used = time.monotonic(), children_s()
    subprocess.run(command(source, output, workers) if workers else loop, check=True, capture_output=True)
    return children_s() - used, time.monotonic() - began


def marginal(few: tuple[float, float], many: tuple[float, float], scans: int) -> dict[str, float]:
    """Return what one of the `scans` more scans costs, and the time that was spent beside them."""
    cpu, wall = ((b - a) / scans for a, b in zip(few, many, strict=True))
    told = {"cpu_s_a_scan": cpu, "wall_s_a_scan": wall, "scans_an_hour": 3600 / wall, "start_cpu_s": few[0] - FEW * cpu}
    return {name: round(value, 2) for name, value in told.items()}


def cpu_of_outputs(wanted: argparse.Namespace) -> dict[str, float]:
    """Return the processor time of the thumbnail and of the hash of the content, which only a cohort has."""
    from VertebralFractureQuantLib.cohort.sources import content
    from VertebralFractureQuantLib.cohort.thumbnails import write_thumbnail

    case = wanted.folder / f"loop_{FEW}" / "s0"
    works = {
        "thumbnail": lambda: write_thumbnail(case, wanted.folder / "thumbnail.jpg"),
        "hash": lambda: content([wanted.scan]),
    }
    spent = {}
    for name, work in works.items():
        work()  # it imports
        began = time.process_time()
        for _ in range(5):
            work()
        spent[name] = round((time.process_time() - began) / 5, 3)
    return spent


def print_table(table: dict[str, dict[str, float]]) -> None:
    """Print a row for each way."""
    print("".ljust(12), *(name.rjust(14) for name in next(iter(table.values()))))
    for way, row in table.items():
        print(way.ljust(12), *(f"{value:14.2f}" for value in row.values()))


LOOP = """
import sys
from pathlib import Path
from VertebralFractureQuantLib.cohort.engine import Library
from VertebralFractureQuantLib.cohort.studies import Study, measure_study
library, models = Library(), Library().load_models("auto")
for path in sorted(Path(sys.argv[1]).iterdir()):
    measure_study(Study(path, path.name.split(".")[0], Path(sys.argv[2])), library, lambda: models)
"""


def children_s() -> float:
    """Processor time of all child processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# Many cases, with a stub in place of the work


def many_cases(wanted: argparse.Namespace) -> dict[str, Any]:
    """Run a cohort of `count` cases whose work is a stub, then the same command again."""
    manifest = write_manifest(wanted.folder, wanted.count)
    told: dict[str, Any] = {"cases": wanted.count}
    for name in ("first_s", "again_s"):
        began = time.monotonic()
        ended = subprocess.run(
            [sys.executable, __file__, "_scale", str(manifest), str(wanted.folder / "out")], check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        told[name] = round(time.monotonic() - began, 1)
        used = json.loads(ended.stdout.splitlines()[-1])
        told |= {name.replace("_s", f"_{key}"): value for key, value in used.items()}
    told["largest_file_mb"] = {
        path.name: round(path.stat().st_size / 1e6, 1) for path in (wanted.folder / "out").iterdir() if path.is_file()
    }
    return told


def write_manifest(folder: Path, count: int) -> Path:
    """Write a manifest of `count` scans with covariates; all of them are one file of a few bytes by other names."""
    scans = folder / "scans"
    scans.mkdir()
    (scans / "scan.nii.gz").write_text("{}")
    chance = random.Random(0)
    lines = ["case,path,age,site"]
    lines += [f"c{n:06},scans/scan.nii.gz,{chance.randint(50, 90)},site {n % 12}" for n in range(count)]
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


class StubCrew:
    """Finishes a task when it is given; the results are those of a few records."""

    window = 64

    def __init__(self, settings: Any):
        import cohort_bench
        from VertebralFractureQuantLib.cohort.rows import case_rows, packed
        from VertebralFractureQuantLib.report.outputs import write_outputs

        self.settings, self.ended = settings, []
        self.results = []
        for n in range(12):
            output = Path(settings.folder).parent / "templates"
            analysis = replace(cohort_bench.record(float(n)), case=f"t{n}")
            write_outputs(analysis, None, output, True, pictures=False)
            patient, rows = case_rows(output / f"t{n}")
            self.results.append((patient, rows * 3))  # twelve vertebrae
        self.packed = packed

    def submit(self, task: Any) -> None:
        """Take a task, and finish it."""
        from VertebralFractureQuantLib.cohort.crew import Ended
        from VertebralFractureQuantLib.cohort.work import Finished

        n = int(task.case[1:])
        folder = Path(self.settings.folder, "cases", task.case)
        folder.mkdir(exist_ok=True)
        (folder / "analysis.json").touch()
        done = Finished(task.case, signature=SIGNATURE[0], content="0")
        if n % 50 == 0:
            self.ended.append(Ended(task, replace(done, status="no_spine_found", message="No spine found.")))
            return
        from VertebralFractureQuantLib.cohort.rows import stamp

        patient, rows = self.results[n % len(self.results)]
        rows = [row | {"case": task.case, "index": i} for i, row in enumerate(rows, 1)]
        done = replace(done, patient=patient, rows=self.packed(rows), stamp=stamp(folder))
        self.ended.append(Ended(task, done))

    def wait(self, timeout_s: float) -> list[Any]:
        """Return what has ended."""
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        """Nothing is under way."""


SIGNATURE = [""]


def scale_once(manifest: Path, output: Path) -> None:
    """Run the cohort of `manifest` in this process, and print its memory."""
    from VertebralFractureQuantLib.cohort import runs
    from VertebralFractureQuantLib.cohort.sources import signature

    SIGNATURE[0] = signature([manifest.parent / "scans" / "scan.nii.gz"])
    runs.run_cohort(runs.Options(manifest, output), make_crew=lambda settings, *_: StubCrew(settings))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"gb": used.ru_maxrss / 1e6, "cpu_s": round(used.ru_utime + used.ru_stime, 1)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["_scale"]:
        scale_once(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
