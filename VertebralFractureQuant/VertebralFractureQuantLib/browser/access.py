"""Who may reach the page: this machine alone, with a random key from a file that the user alone can read.

trame listens on what sys.argv, TRAME_ARGS or TRAME_DEFAULT_HOST say, with a key that everybody knows;
`server_arguments` leaves none of that open. The key stands after "#" in the page's address, which browsers send to no
server; the page keeps it for its tab, so that reloading works, and hands it over in the first message of its
websocket. Nothing is loaded from outside, which the browser itself is told to refuse.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import VFQError

LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
SHORTEST_KEY, LONGEST_KEY = 32, 256
# Nothing is ever uploaded: the page sends clicks and numbers.
LARGEST_MESSAGE_BYTES = 1_000_000

_SAME_ORIGIN = "'self' data: blob:"
HEADERS: Mapping[str, str] = {
    # Vue compiles its templates in the page, which needs eval and inline scripts.
    "Content-Security-Policy": "default-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'; "
    f"script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; style-src 'self' "
    f"'unsafe-inline'; img-src {_SAME_ORIGIN}; media-src {_SAME_ORIGIN}; font-src 'self' data:; "
    f"connect-src {_SAME_ORIGIN}",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# trame's client takes the key from "?secret=" as it starts, and deletes it from the address.
ENTRANCE = """<script>(() => {
  const page = new URL(location), given = new URLSearchParams(page.hash.slice(1)).get("key");
  if (given) sessionStorage.setItem("vfq-key", given);
  const key = given || page.searchParams.get("secret") || sessionStorage.getItem("vfq-key");
  if (key) {
    page.hash = "";
    page.searchParams.set("secret", key);
    history.replaceState(null, "", page);
  } else addEventListener("DOMContentLoaded", () => {
    document.body.textContent = "Open the address that vfq review printed: it holds the key to this page.";
  });
})();</script>"""


def check_host(host: str, key_file: Path | None) -> None:
    """VFQError `unsafe_host` where others could reach the page, unless the user gave a key of their own."""
    if host not in LOOPBACK and key_file is None:
        raise VFQError(
            "unsafe_host",
            f"With --host {host} other computers could reach the page. Give a key of your own with --key-file FILE (a "
            f"file that you alone can read, {SHORTEST_KEY} characters or more), or leave --host out.",
        )


def access_key(key_file: Path | None = None, folder: Path | None = None) -> str:
    """The key of the page: the one in `key_file` where it is given, else this user's, made when it is first needed.

    The user's own lies in `folder`, the configuration folder of this platform where not given.

    Raises
    ------
    VFQError
        `not_found`; `unsafe_key` where others can read the file or its key is weak; `output_not_writable`.
    """
    if key_file is not None:
        return _read_key(key_file)
    file = (folder or config_folder()) / "key"
    if not file.exists():
        _make_key(file)
    return _read_key(file)


def config_folder() -> Path:
    """Where this platform keeps a user's settings of this program."""
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Application Support"
    else:
        parent = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return parent / "vertebral-fracture-quant"


def page_url(host: str, port: int, key: str) -> str:
    """The page's address with its key: to be printed for the user, and written nowhere."""
    host = LOOPBACK.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/#key={key}"


def server_arguments(server: Any, host: str, port: int, key: str) -> dict[str, Any]:
    """Tie a trame server that has not started to `host`, `port` (0: a free one) and `key`.

    Returns the keyword arguments for its `start`, to which `exec_mode` may be added; the port is `server.port` once
    `on_server_ready` was called. Neither sys.argv nor the environment has a say afterwards.
    """
    host = LOOPBACK.get(host, host)
    _fix_arguments(server, [f"--host={host}", f"--port={port}", f"--authKey={key}", "--server", "--timeout=0"])
    server.options["ws_max_msg_size"] = LARGEST_MESSAGE_BYTES
    server.options["log_network"] = None
    for name, value in HEADERS.items():
        server.http_headers.set_header(name, value)
    server.controller.on_server_bind.add(_guard)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    return {
        "host": host,
        "port": port,
        "backend": "aiohttp",
        "timeout": 0,
        "open_browser": False,
        "show_connection_info": False,  # it would print addresses without the key
    }


def _read_key(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            _check_private(file, os.fstat(opened.fileno()))
            key = opened.read(LONGEST_KEY + 2).strip()
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no key file {file.name!r}. Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise VFQError("unsafe_key", f"The key file {file.name!r} cannot be read ({type(error).__name__}).") from None
    # What needs no quoting in an address; trame's client makes a number of what reads as one: not the key any more.
    if not re.fullmatch(rf"[\w.~-]{{{SHORTEST_KEY},{LONGEST_KEY}}}", key, re.ASCII) or _is_number(key):
        raise VFQError(
            "unsafe_key",
            f"The key in {file.name!r} must be {SHORTEST_KEY} to {LONGEST_KEY} letters, digits, - and _ in one line. "
            'Make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return key


def _check_private(file: Path, status: os.stat_result) -> None:
    """On Windows a user's folders are private by their inherited rights, which a mode does not tell."""
    if os.name != "posix":
        return
    if status.st_mode & 0o077 or status.st_uid not in (os.getuid(), 0):
        raise VFQError(
            "unsafe_key", f"Others can read or change the key file {file.name!r}. Make it yours alone: chmod 600 FILE."
        )


def _is_number(key: str) -> bool:
    with suppress(ValueError):
        float(key)
        return True
    return bool(re.fullmatch(r"0[xob][0-9a-f]+", key, re.IGNORECASE))


def _make_key(file: Path) -> None:
    """Written under another name first, so that no one ever reads half a key."""
    partial = file.with_name(f".key-{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(f"vfq-{secrets.token_hex(32)}\n")
        os.replace(partial, file)
    except OSError as error:
        raise VFQError(
            "output_not_writable",
            f"The key of the page cannot be stored in your settings ({error.strerror}). Make that folder writable, or "
            "give a key with --key-file FILE.",
        ) from error


def _fix_arguments(server: Any, arguments: list[str]) -> None:
    """trame parses sys.argv or TRAME_ARGS each time it wants to know something: it gets `arguments` instead."""
    parse = server.cli.parse_known_args
    server.cli.parse_known_args = lambda args=None, namespace=None: parse(arguments, namespace)


def _guard(web_app: Any) -> None:
    """What wslink's web application gets before it listens: the entrance that keeps the key, and smaller messages."""
    www = Path(web_app.config["static"]["/"])
    for path in ("/", "/index.html"):
        web_app.app.router.add_get(path, _entrance(www / "index.html"))
    for handler in web_app._ws_handlers:
        handler.unchunkers = _CappedUnchunkers()


def _entrance(index: Path) -> Any:
    """A request handler: trame's page, into which the script that keeps the key is put first."""
    from aiohttp import web

    page = index.read_text(encoding="utf-8").replace("<head>", f"<head>{ENTRANCE}", 1)

    async def show(_request: Any) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    return show


class _CappedUnchunkers(dict[str, Any]):
    """wslink puts a message together from any number of chunks, up to 4 GB once a client is known: up to 1 MB here."""

    def __setitem__(self, client: str, unchunker: Any) -> None:
        allow = unchunker.set_max_message_size
        unchunker.set_max_message_size = lambda size: allow(min(size, LARGEST_MESSAGE_BYTES))
        super().__setitem__(client, unchunker)
