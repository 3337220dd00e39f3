"""`vfq` in a process of its own that has nothing left to import: a copy of one process that has imported the page.

Most tests of the page start a server, which takes three seconds of processor time, and a copy .8. One test in
`test_browser` starts the command as a user does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [f"VertebralFractureQuantLib.{name}" for name in ("cli.app", "browser.serve", "browser.page", "browser.session")]
    + [f"VertebralFractureQuantLib.browser.{name}" for name in ("annotation_page", "adjudication_page", "pair_page")]
    + ["wslink.backends.aiohttp", "trame_vuetify.module.v3", "trame_client.module.vue3", "trame.ui.html"]
    + ["trame_slicer.app", "typer._adapters", "rich._emoji_codes", "openvino", "SimpleITK", "nibabel", "turbojpeg"]
)


class Command:
    """A running `vfq` with these arguments; what it says on its standard error is in `stderr`."""

    def __init__(self, arguments: list[str]):
        reader, writer = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=_run, args=(arguments, dict(os.environ), writer), daemon=True)
        self.process.start()
        writer.close()
        self.stderr: TextIO = os.fdopen(os.dup(reader.fileno()), errors="replace")
        reader.close()

    def running(self) -> bool:
        return self.process.is_alive()

    def signal(self, how: signal.Signals) -> None:
        assert self.process.pid
        os.kill(self.process.pid, how)

    def wait(self, timeout_s: float = 120.0) -> None:
        """Wait for its end."""
        self.process.join(timeout_s)
        assert not self.running(), f"vfq still runs after {timeout_s:g} s"


def _run(arguments: list[str], environment: dict[str, str], errors: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(errors.fileno(), 2)
    errors.close()
    sys.argv = ["vfq", *arguments]
    from VertebralFractureQuantLib.cli.app import app

    app()
