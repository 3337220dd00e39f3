"""`vfq train` and `vfq mix`: train a network on phantoms, and average networks that come from one run or one start.

Training itself is in `training/`; this file reads arguments and prints results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import VFQError
from .common import DebugOption, Device, DeviceOption, OverwriteOption, coded_exit, refuse_existing

FOLDS = 5
TUNED = ("detector", "refiner")  # the networks for which six points are enough

StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Number of optimizer steps.", show_default="from the recipe")
]
MinutesOption = Annotated[
    float | None,
    typer.Option(min=0, help="Minutes after which to stop; the same command resumes.", show_default="no limit"),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        help="Initial weights: `shipped`, or a .safetensors file.", show_default="random; with --dataset, shipped"
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(help="Channels of each depth, such as 16-32-64-96-128.", show_default="those of the network"),
]
ReferencesOption = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of six-point references of real CT to learn from as well; can be repeated."),
]
LeaveOutOption = Annotated[
    list[str] | None,
    typer.Option(help="Case, or beginning of its name, that is not learned from; can be repeated."),
]
FoldsOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Parts of the cross-validation by patient; 0 for none.",
        show_default=f"{FOLDS}, or as many as patients",
    ),
]


class Role(str, Enum):
    """The network to train."""

    LOCALIZER = "localizer"
    REFINER = "refiner"
    DETECTOR = "detector"
    ANCHOR_BOXES = "anchor-boxes"
    M_SCN_CENTRES = "m-scn-centres"
    M_SCN_MASK = "m-scn-mask"
    M_SCN_POINTS = "m-scn-points"


def train(
    role: Annotated[Role, typer.Argument(help="The network to train.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; an unfinished run in it is resumed.")
    ],
    steps: StepsOption = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples per step.", show_default="from the recipe")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the initial weights and the phantoms.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that make phantoms.")] = 1,
    minutes: MinutesOption = None,
    start: StartOption = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Highest learning rate.", show_default="from the recipe")
    ] = None,
    pool: Annotated[
        int | None, typer.Option(min=1, help="Number of phantoms kept ready.", show_default="from the recipe")
    ] = None,
    reuse: Annotated[
        int | None, typer.Option(min=1, help="Samples taken from each phantom.", show_default="from the recipe")
    ] = None,
    channels: ChannelsOption = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Label set to learn from as well, the folder that vfq dataset create made.")
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(help="Reader of the label set whose labels teach.", show_default="consensus of all readers"),
    ] = None,
    folds: FoldsOption = None,
    references: ReferencesOption = None,
    scans: Annotated[Path | None, typer.Option(help="Folder with the CTs of the references.")] = None,
    leave_out: LeaveOutOption = None,
    real_share: Annotated[float, typer.Option(min=0, max=1, help="Share of real scans among the images.")] = 0.5,
    device: DeviceOption = Device.AUTO,
    debug: DebugOption = False,
) -> None:
    """Train a network on phantoms that are made during training, and on real CT with references or a label set.

    With --dataset, trained weights learn from the labels: a network for each fold, measured on the patients that it did
    not see, then one from all patients. See the page on training.
    """
    if dataset and references:
        raise typer.BadParameter("Give --dataset or --references, not both.")
    wanted: dict[str, Any] = {"steps": steps, "batch": batch, "seed": seed, "workers": workers, "minutes": minutes}
    wanted |= {"start": start, "learning_rate": rate, "pool": pool, "reuse": reuse}
    wanted |= {"references": tuple(map(str, references or ())), "scans": scans and str(scans)}
    wanted |= {"left_out": tuple(leave_out or ()), "real_share": real_share}
    with coded_exit(debug), _written_to(output):
        wanted["channels"] = _channels(channels)
        given = {key: value for key, value in wanted.items() if value is not None}
        if dataset:
            _tune(role.value, given, dataset, reader, folds, output, device.value)
        else:
            _train(role.value, given, output, device.value)


def _train(role: str, given: dict[str, Any], output: Path, device: str) -> None:
    from ..analysis.models import choose_device
    from ..training.train import RECIPES
    from ..training.train import train as run

    path = run(replace(RECIPES[role], **given), output, choose_device(device), typer.echo)
    typer.echo(f"Best weights so far: {path}")


def _tune(
    role: str, given: dict[str, Any], dataset: Path, reader: str | None, folds: int | None, output: Path, device: str
) -> None:
    """Fine-tune on a label set, and print the tables of what was measured on unseen patients."""
    from ..analysis.models import choose_device
    from ..labels.dataset import load
    from ..labels.teaching import lessons_of
    from ..labels.tuning import REFERENCES, tune
    from ..training.train import RECIPES, TUNING
    from .evaluate import predictions_outcome, run_evaluation

    if role not in TUNED:
        raise VFQError("no_real_data", f"The {role} does not learn from label sets. Leave out --dataset.")
    found = load(dataset)
    lessons = lessons_of(found, reader, given["left_out"])
    patients = len({lesson.patient for lesson in lessons})
    count = folds if folds is not None else (min(FOLDS, patients) if patients > 1 else 0)
    recipe = replace(RECIPES[role], **{**TUNING, "name": f"{role} tuned on {found.name}", **given})
    tuned = tune(recipe, lessons, found.name, count, output, choose_device(device), typer.echo)
    for analyses in tuned.analyses:
        typer.echo(f"Unseen patients, {analyses.name} fine-tuning:")
        outcome = partial(predictions_outcome, analyses, output / REFERENCES)
        run_evaluation(outcome, output / f"evaluation-{analyses.name}", True, False)
    typer.echo(f"Weights: {tuned.weights}. Install them with vfq weights install, or use them with --weights {output}.")


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    """Turn an OSError into VFQError `output_not_writable`."""
    try:
        yield
    except OSError as error:
        message = (
            f"{folder.name}: the folder cannot be written ({error.strerror}). Check its permissions and the free "
            "space, or choose another folder."
        )
        raise VFQError("output_not_writable", message) from error


def _channels(text: str | None) -> tuple[int, ...] | None:
    """Parse "24-48-96". Raises VFQError `bad_channels`."""
    if text is None:
        return None
    if not all(part.isdecimal() for part in text.split("-")):
        raise VFQError("bad_channels", f"{text!r} is not a list of channels. Give numbers such as 16-32-64-96-128.")
    return tuple(int(part) for part in text.split("-"))


def mix(
    role: Annotated[Role, typer.Argument(help="The network to which the files belong.")],
    weights: Annotated[list[Path], typer.Argument(help=".safetensors files to average.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder for the mixture.")],
    share: Annotated[
        list[float] | None,
        typer.Option(help="Share of each file, one option per file in their order.", show_default="equal shares"),
    ] = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the weighted mean of networks from one training run, or from runs with the same initial weights."""
    with coded_exit(debug):
        from ..training.mixing import mix as run

        refuse_existing([output / f"{role.value}.safetensors"], overwrite)
        with _written_to(output):
            path = run(role.value, weights, share or [1.0] * len(weights), output, typer.echo)
    typer.echo(f"Mixture: {path}")
