"""The library functions that measure a scan and serve the commands, behind one interface that tests can replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis

Progress = Callable[[str, float], None]  # (step, share of the whole that is done)


class Engine(Protocol):
    """The library functions that measure a scan."""

    def read_ct(
        self,
        path: Path,
        series: str | None = None,
        trust_header: bool = False,
        files: Sequence[str] | None = None,
    ) -> CTVolume:
        """See `files.read_ct`."""

    def load_models(self, device: str) -> Any:
        """See `analysis.load_models`."""

    def analyze(
        self, ct: CTVolume, models: Any, progress: Progress | None = None, trust_header: bool = False
    ) -> SpineAnalysis:
        """See `analysis.analyze`."""


@dataclass(frozen=True)
class Library:
    """The real `Engine`, and the other functions that the commands need.

    Each function is imported when it is called, so that `vfq --help` and Slicer start without them.

    weights : folder of networks that replace the shipped ones, see `analysis.load_models`.
    threads : threads that compute the networks on a CPU; None for one on each core.
    method : name of another method (`methods.registry`); None for ours.
    """

    weights: Path | None = None
    threads: int | None = None
    method: str | None = None

    def read_ct(
        self,
        path: Path,
        series: str | None = None,
        trust_header: bool = False,
        files: Sequence[str] | None = None,
    ) -> CTVolume:
        """See `files.read_ct`."""
        from ..imaging.files import read_ct

        return read_ct(path, series=series, trust_header=trust_header, files=files)

    def load_models(self, device: str) -> Any:
        """See `analysis.load_models`."""
        if self.method:
            from ..methods.registry import load_method

            return load_method(self.method, device, self.weights, self.threads)
        from ..analysis import load_models

        return load_models(device, self.weights, self.threads)

    def analyze(
        self, ct: CTVolume, models: Any, progress: Progress | None = None, trust_header: bool = False
    ) -> SpineAnalysis:
        """See `analysis.analyze`."""
        from ..analysis import analyze

        return analyze(ct, models, progress, trust_header)

    def write_ct(self, ct: CTVolume, path: Path) -> None:
        """See `files.write_ct`."""
        from ..imaging.files import write_ct

        write_ct(ct, path)

    def make_phantom(self, seed: int, **options: Any) -> tuple[CTVolume, Any]:
        """See `phantom.make_phantom`; `options` are the fields of `PhantomOptions`."""
        from ..phantom import PhantomOptions, make_phantom

        return make_phantom(seed, PhantomOptions(**options))
