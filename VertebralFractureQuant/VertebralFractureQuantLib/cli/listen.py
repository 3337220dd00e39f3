"""`vfq listen`: CT studies come from an archive, and their results go back."""

from __future__ import annotations

import signal
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from .common import NOTICE, DebugOption, Device, DeviceOption, WeightsOption, coded_exit, own_weights

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_TITLE = 16


def listen(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")],
    aet: Annotated[str, typer.Option(help="Our AE title, as the archive calls us.")],
    callers: Annotated[
        list[str], typer.Option("--from", metavar="AET", help="AE title that may send to us; may be repeated.")
    ],
    forward: Annotated[
        str, typer.Option(metavar="HOST:PORT:AET", help="Archive that gets the results, such as pacs:104:PACS.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the queue, the studies and their results.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; with another one, other computers can send to us.")
    ] = "127.0.0.1",
    quiet: Annotated[
        float, typer.Option(min=0.1, help="A study is complete when nothing has come for so many seconds.")
    ] = 30.0,
    retry: Annotated[
        float, typer.Option(min=0.1, help="Seconds before a failed step is tried again; the wait doubles each time.")
    ] = 30.0,
    device: DeviceOption = Device.AUTO,
    weights: WeightsOption = None,
    language: Annotated[str, typer.Option(help="Language of the report: en or de.")] = "en",
    template: Annotated[Path | None, typer.Option(help="Folder with templates of your own for the report.")] = None,
    debug: DebugOption = False,
) -> None:
    """Receive CT studies by DICOM, analyse them, and send the results to an archive.

    The state of each study is on the disk: the same command resumes after a stop or a crash. Ctrl+C ends it.
    """
    from ..archive.listener import Listener, Settings
    from ..archive.preparing import Task
    from ..archive.sender import Archive

    for title in (aet, *callers):
        _check_title(title)
    there = Archive(*_address(forward))
    with coded_exit(debug):
        task = Task(output, "", (), device.value, own_weights(weights), language, template)
        settings = Settings(task, aet, port, callers, there, host, quiet, retry)
        listener = Listener(settings, _log)
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), lambda *_: listener.stop())
        if host not in LOOPBACK:
            _log("", "open", "Other computers can send to this port, without encryption; any may use an AE title.")
        listener.run(lambda: _log("", "listening", f"{aet} listens on {host}:{port}. Press Ctrl+C to stop. {NOTICE}"))
        _log("", "stopped", "Nothing is lost: run the same command again to resume.")


def _log(study: str, event: str, sentence: str) -> None:
    """Print one line on standard error: time in UTC, study, event or code, sentence."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    typer.echo(" ".join(filter(None, (now, study, f"{event}:", sentence))), err=True)


def _address(text: str) -> tuple[str, int, str]:
    """Parse HOST:PORT:AET."""
    host, _, rest = text.strip().rpartition(":")[0].rpartition(":") if text.count(":") >= 2 else ("", "", "")
    title = text.strip().rpartition(":")[2]
    if not host or not rest.isdigit() or not 0 < int(rest) < 65536:
        raise typer.BadParameter(f"{text!r}: give HOST:PORT:AET, such as pacs:104:PACS.", param_hint="--forward")
    _check_title(title)
    return host.strip("[]"), int(rest), title


def _check_title(title: str) -> None:
    if not (0 < len(title.strip()) <= LONGEST_TITLE and title.isascii() and title.isprintable()) or "\\" in title:
        raise typer.BadParameter(f"{title!r}: an AE title has 1 to 16 plain characters and no backslash.")
