"""`vfq train` and `vfq mix`: networks from phantoms, and the mean of networks that were trained from one another.

A face only, as `cli`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import VFQError
from .common import DebugOption, Device, DeviceOption, OverwriteOption, coded_exit, refuse_existing


class Role(str, Enum):
    """Which network is trained."""

    LOCALIZER = "localizer"
    REFINER = "refiner"
    DETECTOR = "detector"


def train(
    role: Annotated[Role, typer.Argument(help="The network.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; an unfinished run in it goes on.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps; the recipe's if not given.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a step; the recipe's if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the initial weights and of the phantoms.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that paint phantoms.")] = 1,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; the same command goes on.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Begin with the `shipped` weights or a .safetensors; from scratch if not given.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0, help="Highest learning rate; the recipe's if not given.")] = None,
    pool: Annotated[int | None, typer.Option(min=1, help="Phantoms kept ready; the recipe's if not given.")] = None,
    reuse: Annotated[
        int | None, typer.Option(min=1, help="Samples taken of each phantom; the recipe's if not given.")
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Of each depth, as 16-32-64-96-128; the network's if not given."),
    ] = None,
    device: DeviceOption = Device.AUTO,
    debug: DebugOption = False,
) -> None:
    """Train a network on phantoms made on the fly."""
    with coded_exit(debug):
        from ..analysis.models import choose_device
        from ..training.train import RECIPES
        from ..training.train import train as run

        wanted: dict[str, Any] = {"steps": steps, "batch": batch, "seed": seed, "workers": workers, "minutes": minutes}
        wanted |= {"start": start, "learning_rate": rate, "pool": pool, "reuse": reuse}
        wanted["channels"] = _channels(channels)
        recipe = replace(RECIPES[role.value], **{k: v for k, v in wanted.items() if v is not None})
        with _written_to(output):
            path = run(recipe, output, choose_device(device.value), typer.echo)
    typer.echo(f"Best weights so far: {path}")


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    """An OSError becomes `output_not_writable`."""
    try:
        yield
    except OSError as error:
        message = f"{folder.name}: cannot be written ({error.strerror}). Make room, or give another folder."
        raise VFQError("output_not_writable", message) from error


def _channels(told: str | None) -> tuple[int, ...] | None:
    """The numbers in "24-48-96"; VFQError `bad_channels`."""
    if told is None:
        return None
    if not all(part.isdecimal() for part in told.split("-")):
        raise VFQError("bad_channels", f"{told!r} are no channels. Give them as 16-32-64-96-128.")
    return tuple(int(part) for part in told.split("-"))


def mix(
    role: Annotated[Role, typer.Argument(help="The network.")],
    weights: Annotated[list[Path], typer.Argument(help="The .safetensors to take the mean of.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the mixture to.")],
    share: Annotated[list[float] | None, typer.Option(help="Of each file in turn; equal if not given.")] = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the weighted mean of networks that were trained from one another."""
    with coded_exit(debug):
        from ..training.mixing import mix as run

        refuse_existing([output / f"{role.value}.safetensors"], overwrite)
        with _written_to(output):
            path = run(role.value, weights, share or [1.0] * len(weights), output, typer.echo)
    typer.echo(f"Mixture: {path}")
