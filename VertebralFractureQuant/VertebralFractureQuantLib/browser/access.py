"""Access to the review page: by default only from this computer, with a random key that only the user can read.

By default trame takes its address from sys.argv, TRAME_ARGS or TRAME_DEFAULT_HOST, and its key is public;
`server_arguments` overrides all of these. The key is the part of the page's address after "#", which browsers do not
send to servers. The page keeps the key for its tab, so that it can be reloaded, and sends it in the first message of
its websocket. The page loads nothing from other servers, and its headers tell the browser to block such requests.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..networks.installed import config_folder

LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
SHORTEST_KEY, LONGEST_KEY = 32, 256
# The page uploads no files; it only sends clicks and numbers.
LARGEST_MESSAGE_BYTES = 1_000_000

_SAME_ORIGIN = "'self' data: blob:"
HEADERS: Mapping[str, str] = {
    # Vue compiles its templates in the page and needs eval and inline scripts.
    "Content-Security-Policy": "default-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'; "
    f"script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; style-src 'self' "
    f"'unsafe-inline'; img-src {_SAME_ORIGIN}; media-src {_SAME_ORIGIN}; font-src 'self' data:; "
    f"connect-src {_SAME_ORIGIN}",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# At its start, trame's client reads the key from "?secret=" and removes it from the address.
ENTRANCE = """<script>(() => {
  const page = new URL(location), given = new URLSearchParams(page.hash.slice(1)).get("key");
  if (given) sessionStorage.setItem("vfq-key", given);
  const key = given || page.searchParams.get("secret") || sessionStorage.getItem("vfq-key");
  if (key) {
    page.hash = "";
    page.searchParams.set("secret", key);
    history.replaceState(null, "", page);
  } else addEventListener("DOMContentLoaded", () => {
    document.body.textContent = "This page needs a key. Open the full address that vfq review printed.";
  });
})();</script>"""
# Told in the page's own style when the connection ends; the tab then comes back to its case and vertebra.
WATCH = """<style>#vfq-lost { position: fixed; inset: 0; z-index: 9999; background: rgba(17, 17, 17, .85);
  color: #eee; display: flex; align-items: center; justify-content: center; font: 16px/1.5 Roboto, sans-serif; }
#vfq-lost div { background: #26282b; border-radius: 6px; padding: 24px 32px; max-width: 34em; }</style>
<script>(() => {
  let leaving = false;
  addEventListener("pagehide", () => { leaving = true; });
  const again = async () => {
    try {
      const answer = await fetch(location.pathname, {cache: "no-store"});
      if (answer.ok) return location.reload();
    } catch {}
    setTimeout(again, 1000);
  };
  const lost = () => {
    if (leaving || document.getElementById("vfq-lost") || !document.querySelector("[data-test=side]")) return;
    const state = window.trame.state, index = state.get("case_index");
    if (index >= 0) sessionStorage.setItem("vfq-place", JSON.stringify([index, state.get("selected")]));
    const told = document.createElement("div");
    told.id = "vfq-lost";
    told.setAttribute("role", "alert");
    told.innerHTML = "<div>The connection to vfq review is lost. Every action that the table shows is stored. If the " +
      "program was stopped, start it again with the same output folder. This page tries to connect every second, and " +
      "comes back to the same case and vertebra.</div>";
    document.body.append(told);
    again();
  };
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...given) {
      super(...given);
      this.addEventListener("close", lost);
    }
  };
})();</script>"""


def check_host(host: str, key_file: Path | None) -> None:
    """Raise VFQError `unsafe_host` if other computers could reach the page and the user gave no key file."""
    if host not in LOOPBACK and key_file is None:
        raise VFQError(
            "unsafe_host",
            f"With --host {host} other computers could reach the page. Set a key with --key-file FILE (a file that "
            f"only you can read, with at least {SHORTEST_KEY} characters), or leave --host out and use an SSH tunnel.",
        )


def access_key(key_file: Path | None = None, folder: Path | None = None) -> str:
    """Return the page's key: the one in `key_file` if given, else the user's stored key, created on first use.

    The stored key is in `folder`, by default the platform's configuration folder.

    Raises
    ------
    VFQError
        `not_found`; `unsafe_key` if other users can read the file or its key is weak; `output_not_writable`.
    """
    if key_file is not None:
        return _read_key(key_file)
    file = (folder or config_folder()) / "key"
    if not file.exists():
        _make_key(file)
    return _read_key(file)


def page_url(host: str, port: int, key: str) -> str:
    """Return the page's address with its key. Print it for the user only; do not store it."""
    host = LOOPBACK.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/#key={key}"


def server_arguments(server: Any, host: str, port: int, key: str) -> dict[str, Any]:
    """Bind a trame server that has not started to `host`, `port` (0: any free port) and `key`.

    Returns the keyword arguments for its `start`; `exec_mode` may be added. `server.port` is known once
    `on_server_ready` was called. Afterwards sys.argv and the environment have no effect on the server.
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
        "show_connection_info": False,  # it prints addresses without the key
    }


def _read_key(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            _check_private(file, os.fstat(opened.fileno()))
            key = opened.read(LONGEST_KEY + 2).strip()
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no key file {file.name!r}. Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise VFQError(
            "unsafe_key",
            f"The key file {file.name!r} cannot be read ({type(error).__name__}). Use a text file that you can read.",
        ) from None
    # Only characters that need no quoting in an address. trame's client would convert a numeric key to a number.
    if not re.fullmatch(rf"[\w.~-]{{{SHORTEST_KEY},{LONGEST_KEY}}}", key, re.ASCII) or _is_number(key):
        raise VFQError(
            "unsafe_key",
            f"The key in {file.name!r} is not usable: it must be one line of {SHORTEST_KEY} to {LONGEST_KEY} letters, "
            "digits, - and _, and not a number. Make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return key


def _check_private(file: Path, status: os.stat_result) -> None:
    """Raise VFQError `unsafe_key` if other users can read or change the key file.

    On Windows, inherited rights keep a user's folders private, and the file mode does not show them.
    """
    if os.name != "posix":
        return
    if status.st_mode & 0o077 or status.st_uid not in (os.getuid(), 0):
        raise VFQError(
            "unsafe_key",
            f"Other users can read or change the key file {file.name!r}. Restrict it to yourself: chmod 600 FILE.",
        )


def _is_number(key: str) -> bool:
    with suppress(ValueError):
        float(key)
        return True
    return bool(re.fullmatch(r"0[xob][0-9a-f]+", key, re.IGNORECASE))


def _make_key(file: Path) -> None:
    """The key is written under a temporary name first, so that a partial key is never read."""
    partial = file.with_name(f".key-{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(f"vfq-{secrets.token_hex(32)}\n")
        os.replace(partial, file)
    except OSError as error:
        raise VFQError(
            "output_not_writable",
            f"The page's key cannot be saved in your settings folder ({error.strerror}). Make that folder writable, or "
            "set a key with --key-file FILE.",
        ) from error


def _fix_arguments(server: Any, arguments: list[str]) -> None:
    """trame parses sys.argv or TRAME_ARGS each time it needs a value; make it parse `arguments` instead."""
    parse = server.cli.parse_known_args
    server.cli.parse_known_args = lambda args=None, namespace=None: parse(arguments, namespace)


def _guard(web_app: Any) -> None:
    """Prepare wslink's web application before it listens: add the script that keeps the key, limit message size."""
    www = Path(web_app.config["static"]["/"])
    for path in ("/", "/index.html"):
        web_app.app.router.add_get(path, _entrance(www / "index.html"))
    for handler in web_app._ws_handlers:
        handler.unchunkers = _CappedUnchunkers()


def _entrance(index: Path) -> Any:
    """Return a request handler that serves trame's page with the script that keeps the key at its top."""
    from aiohttp import web

    page = index.read_text(encoding="utf-8").replace("<head>", f"<head>{ENTRANCE}{WATCH}", 1)
    page = page.replace(",maximum-scale=1,minimum-scale=1", "")  # a phone or tablet may enlarge the page

    async def show(_request: Any) -> web.Response:
        """Answer with the page."""
        return web.Response(text=page, content_type="text/html")

    return show


class _CappedUnchunkers(dict[str, Any]):
    """Limits messages to 1 MB; wslink itself joins chunks of up to 4 GB once a client is authenticated."""

    def __setitem__(self, client: str, unchunker: Any) -> None:
        allow = unchunker.set_max_message_size
        unchunker.set_max_message_size = lambda size: allow(min(size, LARGEST_MESSAGE_BYTES))
        super().__setitem__(client, unchunker)
