"""The weights and the figures of the synthetic picture: python Testing/validation/healthy.py frames | train | ...

`frames` paints intact phantoms and straightens the scans of our references into training frames; `train` trains the
generator, or with --without one of its parts for the ablation; `finish` writes its graph and fits the grader on twins;
`twins` prints the errors of the losses on other twins. Each phantom takes some seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "VertebralFractureQuant")]

from VertebralFractureQuantLib.networks.predictor import OpenVinoPredictor, TorchPredictor  # noqa: E402
from VertebralFractureQuantLib.training import healthy_data, healthy_export, healthy_twins  # noqa: E402
from VertebralFractureQuantLib.training.healthy_losses import Parts  # noqa: E402
from VertebralFractureQuantLib.training.healthy_train import HealthyRecipe, train_healthy  # noqa: E402
from VertebralFractureQuantLib.training.real import read_cases  # noqa: E402

LEARNED, VALIDATED, GRADED, TESTED = 20_000, 30_000, 41_000, 42_000  # first seeds
VALIDATION_PHANTOMS, VIEWS = 10, 14
HELD_OUT = ("TS_aorta", "LIDC")  # beginnings of the names of cases that are not learned from
WEIGHTS = "healthy.safetensors"
DATA = "synthetic phantoms; real CT with our references, see README.md"


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--output", "--frames", dest="frames", type=Path, default=Path("frames"))
    parser.add_argument("--run", type=Path, default=Path("run"))
    parser.add_argument("--references", type=Path, nargs="*", default=[ROOT / "Testing" / "references"])
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--phantoms", type=int, default=50)
    parser.add_argument("--twins", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--without", choices=("attention", "restoration", "edges"), nargs="*", default=[])
    parser.add_argument("--adversarial", action="store_true")
    wanted = parser.parse_args()
    STEPS[wanted.step](wanted)


def frames(wanted: argparse.Namespace) -> None:
    """Write the frames: one file for each image, and one for the validation."""
    wanted.frames.mkdir(parents=True, exist_ok=True)
    for seed in range(LEARNED, LEARNED + wanted.phantoms):
        _write(wanted.frames / f"p{seed}.npz", _both(healthy_data.painted(seed), np.random.default_rng((seed, 2))))
    if wanted.scans:
        cases = read_cases(wanted.references, wanted.scans, HELD_OUT)
        for view in range(VIEWS):
            for number, case in enumerate(cases):
                rng = np.random.default_rng((view, number))
                _write(wanted.frames / f"r{view}-{number}.npz", _both(healthy_data.straightened(case, rng), rng))
    seeds = range(VALIDATED, VALIDATED + VALIDATION_PHANTOMS)
    found = [s for i in seeds for s in healthy_data.samples(healthy_data.painted(i), np.random.default_rng(i), False)]
    _write(wanted.frames / "validation.npz", found)


def _both(image: healthy_data.Straightened, rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    return healthy_data.samples(image, rng, False) + healthy_data.samples(image, rng, True)


def _write(path: Path, found: list[dict[str, np.ndarray]]) -> None:
    if found:
        np.savez(path, **{key: np.stack([each[key] for each in found]) for key in found[0]})


def _parts(wanted: argparse.Namespace) -> Parts:
    return Parts(**dict.fromkeys(wanted.without, False), adversarial=wanted.adversarial)


def train(wanted: argparse.Namespace) -> None:
    """Train on the frames, and write the run's folder."""
    with np.load(wanted.frames / "validation.npz") as file:
        stored = {key: file[key] for key in file.files}
    fixed = [{key: values[i] for key, values in stored.items()} for i in range(len(stored["height"]))]
    recipe = HealthyRecipe(steps=wanted.steps, minutes=wanted.minutes, parts=_parts(wanted))
    train_healthy(recipe, wanted.frames, {"phantom": fixed}, wanted.run, DATA)


def finish(wanted: argparse.Namespace) -> None:
    """Write the graph of a run, and fit the grader on twins."""
    path = wanted.run / WEIGHTS
    predict = OpenVinoPredictor(healthy_export.export_generator(path).read_bytes(), 1)
    rows = _losses(predict, range(GRADED, GRADED + wanted.twins), Parts())
    grader = healthy_export.fit_grader(np.array([r.found for r in rows]), [r.grade for r in rows])
    error = np.sqrt(np.mean([(r.found - r.true) ** 2 for r in rows], axis=0)).round(4).tolist()
    healthy_export.add_to_card(
        path, loss_sd=error, grader=grader, grader_data=f"{len(rows)} vertebrae of {wanted.twins} phantoms"
    )


def twins(wanted: argparse.Namespace) -> None:
    """Print the errors of the losses on twins that nothing was fitted on."""
    predict = TorchPredictor(healthy_export.read_generator(wanted.run / WEIGHTS))
    seeds = range(TESTED, TESTED + wanted.twins)
    every = [
        each for s in seeds for each in healthy_twins.twin_losses(predict, healthy_twins.make_twins(s), _parts(wanted))
    ]
    print(json.dumps(healthy_twins.loss_figures(every), indent=1))


def _losses(predict: object, seeds: range, parts: Parts) -> list[healthy_twins.TwinLoss]:
    found = (healthy_twins.twin_losses(predict, healthy_twins.make_twins(s), parts) for s in seeds)  # type: ignore[arg-type]
    return [each for rows in found for each in rows if each is not None]


STEPS = {"frames": frames, "train": train, "finish": finish, "twins": twins}

if __name__ == "__main__":
    main()
