"""The server of the review page: one process serves one worklist, by default on this computer only.

The page uploads nothing and loads nothing from other servers. It opens with a key that is part of the printed address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohort.worklist import Case
from ..errors import VFQError
from . import access

if TYPE_CHECKING:
    from .session import Session

TABS_EVERY_S = 0.3


@dataclass(frozen=True)
class Settings:
    """How the page is served, and to whom.

    Attributes
    ----------
    who : the reader's name, recorded with each action.
    host, port : the address to listen on; port 0 is `usual_port`, or any free port if that one is in use.
    key_file : a file with the page's key; None for the user's stored key.
    device : where the networks run: "auto", "cpu", "cuda" or "mps".
    show_names : show file names, which can be patients' names.
    analyses : for a case's name, an analysis file outside its folder.
    announce : called with the page's address, which contains the key.
    trust_header : the user vouches for the headers of the scans, see `analysis.analyze`.
    prior : the last of two cases is the prior of the first one.
    weights : folder of the networks, see `analysis.load_models`; None for those in use.
    """

    who: str
    host: str = "127.0.0.1"
    port: int = 0
    usual_port: int = 0
    key_file: Path | None = None
    device: str = "auto"
    show_names: bool = False
    analyses: dict[str, Path] = field(default_factory=dict)
    announce: Callable[[str], None] = print
    trust_header: bool = False
    prior: bool = False
    weights: Path | None = None


def serve(cases: Sequence[Case], settings: Settings, build: Callable[..., Any] | None = None) -> None:
    """Serve the page until Ctrl+C.

    `build` makes the page on a trame server with its views, for cases and settings, and returns its session; that of
    the review if None.

    VFQError `unsafe_host`; `port_in_use`; `output_not_writable` if actions of the reader could not be saved;
    `missing_dependency` if the packages of the page are not installed.
    """
    access.check_host(settings.host, settings.key_file)
    key = access.access_key(settings.key_file)
    try:
        from trame.app import get_server
        from trame_slicer import module

        from .views import ReviewViews
    except ImportError as error:
        raise VFQError(
            "missing_dependency",
            f"The review page needs {error.name}, which is not installed. Run: pip install "
            "'vertebral-fracture-quant[review]'. On Linux also run: apt install libegl1 libgl1",
        ) from error
    server = get_server("vfq-review", client_type="vue3")
    server.enable_module(module)
    unsaved: list[VFQError] = []
    # Ctrl+C is the normal end. aiohttp turns it into SystemExit, which would hide the errors in `unsaved`.
    with suppress(KeyboardInterrupt, SystemExit):
        make, pairs = partial(build or review_page, server), build is None and len(cases) > 1
        asyncio.run(_run(server, lambda: make(ReviewViews(server, pairs), cases, settings), settings, key, unsaved))
    if unsaved:
        raise unsaved[0]


def review_page(server: Any, views: Any, cases: Sequence[Case], settings: Settings) -> Session:
    """Build the page of a review; return its session."""
    from .cases import CaseLoader
    from .kept import Kept
    from .page import ReviewPage
    from .session import Session

    loader = CaseLoader(
        settings.device,
        lambda case, state: session.progress(case, state),
        settings.analyses,
        settings.trust_header,
        settings.weights,
    )
    session = Session(server, views, cases, loader, settings.who, settings.show_names, Kept())
    ReviewPage(server, session)
    if settings.prior:
        session.pairing.wanted = {cases[0]: cases[-1]}
    return session


async def _run(server: Any, make: Callable[[], Session], settings: Settings, key: str, unsaved: list[VFQError]) -> None:
    """Run until cancelled. Errors of the last save are added to `unsaved`."""
    session = make()

    @server.controller.add("on_server_ready")
    def ready(**_: Any) -> None:
        """Say where the page is, and open the case that was open last, or the first one."""
        settings.announce(access.page_url(settings.host, server.port, key))
        asyncio.get_running_loop().create_task(session.open_first())

    tabs = Tabs(session.tabs_changed)
    server.controller.on_server_bind.add(tabs.bind)
    watching = [asyncio.get_running_loop().create_task(each) for each in (tabs.watch(), session.watch_place())]
    port = settings.port or await _free(access.LOOPBACK.get(settings.host, settings.host), settings.usual_port)
    arguments = access.server_arguments(server, settings.host, port, key)
    try:
        await server.start(exec_mode="coroutine", **arguments)
    except OSError as error:
        raise VFQError(
            "port_in_use",
            f"Port {settings.port} cannot be used ({error.strerror}). Give another --port, or leave the option out "
            "to use a free one.",
        ) from error
    finally:
        for task in watching:
            task.cancel()
        session.loader.close()
        try:
            await session.end()
        except VFQError as error:
            unsaved.append(error)


async def _free(host: str, port: int) -> int:
    """Return the port if it can be listened on, else 0."""
    try:
        probe = await asyncio.start_server(lambda *_: None, host, port)
    except OSError:
        return 0
    probe.close()
    await probe.wait_closed()
    return port


class Tabs:
    """Counts the tabs that show the page, from the open connections, because a tab that crashes sends no message.

    changed : called with each new count, and whether a tab has gone; one that is loaded again goes and comes at once.
    """

    def __init__(self, changed: Callable[[int, bool], None]):
        self._changed = changed
        self._handlers: Sequence[Any] = ()

    def bind(self, web_app: Any) -> None:
        """Called with the server's web application before it listens."""
        self._handlers = web_app._ws_handlers

    async def watch(self) -> None:
        """Report each tab that comes or goes, until cancelled."""
        known: set[str] = set()
        while True:
            here = {each for handler in self._handlers for each in handler.authentified_client_ids}
            if here != known:
                gone, known = bool(known - here), here
                self._changed(len(here), gone)
            await asyncio.sleep(TABS_EVERY_S)
