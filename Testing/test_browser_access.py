"""Access to the review page: only from this computer and only with the key, whatever the environment says."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from VertebralFractureQuantLib.browser import access
from VertebralFractureQuantLib.errors import VFQError

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no file modes; a user's folders are private there")

# Prints its port, then serves. Its environment and arguments try to change its address and to set the public key.
SERVER = """
import asyncio, sys
from trame.app import get_server
from VertebralFractureQuantLib.browser import access
server = get_server("probe", client_type="vue3")
server.controller.on_server_ready.add(lambda **_: print(server.port, flush=True))
async def main():
    key = sys.stdin.readline().strip()
    await server.start(exec_mode="coroutine", **access.server_arguments(server, "localhost", 0, key))
asyncio.run(main())
"""
HOSTILE = {"TRAME_DEFAULT_HOST": "0.0.0.0", "TRAME_ARGS": "--host 0.0.0.0 --authKey=wslink-secret --port 1"}


# --- the key


def test_the_key_is_created_once_is_random_and_readable_only_by_the_user(tmp_path):
    key = access.access_key(folder=tmp_path / "new")
    assert len(key) >= 64 and access.access_key(folder=tmp_path / "new") == key
    assert key != access.access_key(folder=tmp_path / "other")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["key"]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "new" / "key").stat().st_mode) == 0o600


def test_the_key_is_in_the_users_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key = access.access_key()
    assert key in (tmp_path / "vertebral-fracture-quant" / "key").read_text()


def own_key(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_key_file_of_the_user_is_read(tmp_path):
    key = secrets.token_urlsafe(32)
    assert access.access_key(own_key(tmp_path / "key", f"{key}\n")) == key


@pytest.mark.parametrize(
    "text",
    ["", "short", "1" * 40, "0x" + "a" * 40, "x" * 300, "two\n" + "lines" * 10, "quoted=" + "x" * 40, "é" * 40],
)
def test_a_key_that_is_weak_or_that_the_page_would_misread_is_refused(tmp_path, text):
    with pytest.raises(VFQError) as refused:
        access.access_key(own_key(tmp_path / "key", text))
    assert refused.value.code == "unsafe_key"
    assert not text or text not in refused.value.message


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o620])
def test_a_key_file_that_others_can_read_or_change_is_refused(tmp_path, mode):
    with pytest.raises(VFQError) as refused:
        access.access_key(own_key(tmp_path / "key", "k" * 40, mode))
    assert refused.value.code == "unsafe_key" and "chmod 600" in refused.value.message


def test_a_missing_key_file_is_reported(tmp_path):
    with pytest.raises(VFQError) as refused:
        access.access_key(tmp_path / "none")
    assert refused.value.code == "not_found"


# --- the host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_local_host_needs_no_key_file(host):
    access.check_host(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "hospital.example", "", "127.0.0.1.example"])
def test_another_host_needs_a_key_file(host):
    with pytest.raises(VFQError) as refused:
        access.check_host(host, None)
    assert refused.value.code == "unsafe_host" and "--key-file" in refused.value.message
    access.check_host(host, Path("key"))


def test_the_address_has_the_key_in_the_part_that_browsers_send_to_no_server():
    assert access.page_url("localhost", 8080, "secret") == "http://127.0.0.1:8080/#key=secret"
    assert access.page_url("::1", 8080, "secret") == "http://[::1]:8080/#key=secret"


# --- a real server


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The port and the key of a real trame server in a hostile environment; its output must not contain the key."""
    pytest.importorskip("trame", reason="the page's packages are not installed")
    key = access.access_key(folder=tmp_path_factory.mktemp("settings"))
    path = os.pathsep.join([str(Path(access.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, "--host", "0.0.0.0", "--authKey", "wslink-secret"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **HOSTILE, "PYTHONPATH": path},
    )
    assert server.stdin and server.stdout
    server.stdin.write(f"{key}\n")
    server.stdin.flush()
    yield int(server.stdout.readline()), key
    server.kill()
    assert key not in server.communicate()[0]


def hello(port: int, key: object, padding: int = 0, chunk: int = 0) -> dict | None:
    """Return the server's answer to a client's first message with `key`, or to a second one of `padding` more bytes.

    Messages are sent in pieces of `chunk` bytes (0: in one piece). None if the connection was closed.
    """
    import aiohttp
    import msgpack
    from wslink.chunking import UnChunker, generate_chunks

    async def say(socket, message: dict) -> dict | None:
        for part in generate_chunks(msgpack.packb({"wslink": "1.0", **message}), chunk):
            if not socket.closed:
                with suppress(ConnectionError):  # it may be closed at this moment
                    await socket.send_bytes(part)
        reply = await socket.receive(timeout=60)
        return UnChunker().process_chunk(reply.data) if reply.type == aiohttp.WSMsgType.BINARY else None

    async def talk() -> dict | None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/ws") as socket:
            answer = await say(socket, {"id": "system:c0:0", "method": "wslink.hello", "args": [{"secret": key}]})
            return await say(socket, {"id": "rpc:c0:0", "method": "no", "args": ["x" * padding]}) if padding else answer

    return asyncio.run(talk())


def test_the_right_key_opens_the_page(served):
    port, key = served
    assert "clientID" in hello(port, key)["result"]


@pytest.mark.parametrize("key", ["wslink-secret", "vtkweb-secret", "", "vfq-" + "0" * 64, True, None, 0])
def test_any_other_key_is_refused(served, key):
    assert hello(served[0], key)["error"]["message"] == "Authentication failed"


def test_the_server_listens_only_locally_despite_environment_and_arguments(served):
    import socket

    with pytest.raises(OSError):  # no other address of this computer accepts connections, not even 127.0.0.2
        socket.create_connection(("127.0.0.2", served[0]), timeout=2)
    socket.create_connection(("127.0.0.1", served[0]), timeout=60).close()


@pytest.mark.parametrize("chunk", [0, 1 << 16], ids=["in one piece", "in many"])
def test_a_message_above_a_megabyte_is_refused(served, chunk):
    assert hello(*served, padding=900_000, chunk=chunk) is not None
    assert hello(*served, padding=1_100_000, chunk=chunk) is None


def test_the_page_loads_nothing_from_outside_and_keeps_its_key(served):
    from urllib.request import urlopen

    for path in ("", "index.html"):
        with urlopen(f"http://127.0.0.1:{served[0]}/{path}") as answer:
            page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        assert access.ENTRANCE in page and page.index(access.ENTRANCE) < page.index("<script type=")
        assert "default-src 'none'" in policy and "http" not in policy and "*" not in policy
    with urlopen(f"http://127.0.0.1:{served[0]}/vue.global.js") as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
