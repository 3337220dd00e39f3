"""The library functions behind the commands, imported only when they are called; a test hands in others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohort.studies import Library

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis


@dataclass(frozen=True)
class Engine:
    """The library functions behind the command; a test hands in others (`CliRunner.invoke(app, args, obj=engine)`).

    `make_phantom` takes the seed and the fields of `PhantomOptions` by name.
    """

    read_ct: Callable[..., CTVolume]
    write_ct: Callable[[CTVolume, Path], Any]
    load_models: Callable[[str], Any]
    analyze: Callable[..., SpineAnalysis]
    make_phantom: Callable[..., tuple[CTVolume, Any]]


class LazyEngine(Library):
    """The real `Engine`; each function is imported when it is called, so that `vfq --help` waits for none."""

    def write_ct(self, ct: CTVolume, path: Path) -> None:
        """See `files.write_ct`."""
        from ..imaging.files import write_ct

        write_ct(ct, path)

    def make_phantom(self, seed: int, **options: Any) -> tuple[CTVolume, Any]:
        """See `phantom.make_phantom`; `options` are the fields of `PhantomOptions`."""
        from ..phantom import PhantomOptions, make_phantom

        return make_phantom(seed, PhantomOptions(**options))
