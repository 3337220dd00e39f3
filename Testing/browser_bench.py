"""What the tests of the review page share: servers of the real command, a browser, and the acts of a reader.

The server runs in a process of its own; the browser is Chromium, driven by Playwright.
"""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from browser_forks import Command
from chromium import CHROMIUM, FLAGS
from PIL import Image
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.files import write_ct
from VertebralFractureQuantLib.scene.straight import ANTERIOR_MM
from VertebralFractureQuantLib.spine.curve import SpineCurve
from VertebralFractureQuantLib.spine.record import SpineAnalysis
from VertebralFractureQuantLib.spine.record_json import read_analysis
from VertebralFractureQuantLib.spine.straightening import Straightening

SIZE = {"width": 1600, "height": 950}
PATIENT = "Doe^Jane"
SMALL = {"field_of_view": "spine", "spacing_mm": (1.2, 2.0)}  # a phantom that is painted in ten seconds
IMAGES_SHOWN = """[...document.querySelectorAll('[data-view] canvas, [data-view] img')].filter(
    (shown) => (shown.naturalWidth ?? shown.width) > 1).length >= 4"""
LIMIT_S = 120.0  # ends a test that hangs: what tests wait for comes in seconds, on a very busy computer in a minute
# The page sends events of the mouse in a view one by one, each up to 30 ms after the answer to the one before; keys and
# clicks on buttons do not wait for them.
HANDLED = """async () => {
  const frame = () => new Promise(requestAnimationFrame), after = (ms) => new Promise((done) => setTimeout(done, ms));
  const views = window.sentOfViews ??= (() => {
    const views = {count: 0, waiting: new Set(), used: true}, send = WebSocket.prototype.send, sockets = new WeakSet();
    const start = (data) => new TextDecoder("latin1").decode(data.slice(0, 120));
    const answered = async ({data}) =>
      views.waiting.delete(start(await data.arrayBuffer()).match(/rpc:[^:]+:[0-9]+/)?.[0]);
    WebSocket.prototype.send = function (data, ...more) {
      if (!sockets.has(this)) this.addEventListener("message", answered);
      sockets.add(this);
      const call = start(data).match(/(rpc:[^:]+:[0-9]+)[^]*trame.rca.event/);
      if (call) { views.waiting.add(call[1]); views.count++; }
      return send.call(this, data, ...more);
    };
    for (const type of ["pointermove", "pointerdown", "pointerup", "wheel"])
      window.addEventListener(type, ({target}) => { if (target.closest?.(".view")) views.used = true; }, true);
    return views;
  })();
  await frame();
  for (let before = -1; views.used && before !== views.count;) {
    before = views.count;
    while (views.waiting.size) await after(5);
    await after(60);
  }
  views.used = false;
  if (window.vfqInOrder) await new Promise((done) => window.vfqInOrder(done));  // keys that wait for a click
  for (let i = 0; i < 2; i++) await window.trame.trigger("key", [""]);  // no key
  await after(0);
  await frame();
  await frame();
}"""


@dataclass
class Server:
    """`vfq review` in a process of its own."""

    arguments: list[str]
    command: ClassVar[str] = "review"
    vfq: Command = field(init=False)
    log: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.vfq = Command([self.command, "--no-browser", *self.arguments])

    @cached_property
    def url(self) -> str:
        """The address of the page; waits until the server prints it."""
        for line in self.vfq.stderr:
            self.log.append(line)
            found = re.search(r"Open (http\S+)", line)
            if found:
                return found.group(1)
        raise AssertionError("".join(self.log))

    def processor_s(self) -> float:
        """Return the processor time of it and of its children that have ended, in s; other programs do not count."""
        import psutil  # comes with dask

        times = psutil.Process(self.vfq.process.pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    def stop(self, how: signal.Signals = signal.SIGINT) -> str:
        """End it unless it has ended, and return all that it said."""
        if self.vfq.running():
            self.vfq.signal(how)
        self.vfq.wait()
        return "".join(self.log) + self.vfq.stderr.read()


@pytest.fixture(scope="session")
def scans(once, painted) -> Path:
    """A small phantom and a crop of it, in files that are named like patients."""
    return once("scans", lambda folder: write_scans(folder, painted(11, **SMALL)[0], f"{PATIENT}-"))


@pytest.fixture(scope="session")
def analyzed(scans: Path, once) -> Path:
    """The outputs of `vfq analyze` for both scans."""
    return once("analyzed", partial(analyze, scans))


def write_scans(folder: Path, ct: CTVolume, name: str) -> None:
    """Write a CT and its caudal part as `name`1 and `name`2."""
    for i, voxels in enumerate((ct.voxels, ct.voxels[: -len(ct.voxels) // 5])):
        write_ct(replace(ct, voxels=voxels), folder / f"{name}{i + 1}.nii.gz")


def analyze(scans: Path, output: Path) -> None:
    """Run `vfq analyze`."""
    command = [sys.executable, "-m", "VertebralFractureQuantLib.cli", "analyze", str(scans), "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


class Ahead:
    """Servers with separate outputs, each started while the test before it runs."""

    def __init__(self, scans: Path, analyzed: Path, folder: Path):
        self.scans, self.analyzed, self.folder = scans, analyzed, folder
        self.count = 0
        self.next = self.start()

    def start(self) -> tuple[Server, Path]:
        self.count += 1
        output = Path(shutil.copytree(self.analyzed, self.folder / f"review-{self.count}"))
        return Server([str(self.scans), "--output", str(output), "--reader", "tester"]), output

    def take(self) -> tuple[Server, Path]:
        taken, self.next = self.next, self.start()
        return taken


@pytest.fixture(scope="module")
def ahead(scans: Path, analyzed: Path, tmp_path_factory) -> Iterator[Ahead]:
    ahead = Ahead(scans, analyzed, tmp_path_factory.mktemp("reviews"))
    yield ahead
    ahead.next[0].stop()


@pytest.fixture
def started(ahead: Ahead) -> Iterator[tuple[Server, Path]]:
    server, output = ahead.take()
    yield server, output
    server.stop()


@pytest.fixture
def server(started: tuple[Server, Path]) -> Server:
    return started[0]


@pytest.fixture
def output(started: tuple[Server, Path]) -> Path:
    return started[1]


@pytest.fixture
def unopened(analyzed: Path, tmp_path: Path) -> Path:
    """Outputs that no server uses yet."""
    return Path(shutil.copytree(analyzed, tmp_path / "review"))


@pytest.fixture
def page(chromium, server: Server) -> Iterator[object]:
    page = open_page(chromium, server)
    yield page
    page.close()


def open_page(chromium, server: Server, **options):
    """Return a page that shows the first case; `options` are those of Playwright's `new_page`."""
    page = new_page(chromium, **options)
    page.outside = []
    page.on(
        "request",
        lambda r: (
            page.outside.append(r.url)
            if not r.url.startswith(("http://127.0.0.1", "data:", "blob:", "ws://127.0.0.1"))
            else None
        ),
    )
    page.goto(server.url)
    page.wait_for_selector("tr[data-id]")
    idle(page)
    page.wait_for_function(IMAGES_SHOWN)
    handled(page)
    return page


def new_page(browser, **options):
    """Return an empty page whose methods wait until `LIMIT_S`; `options` are those of Playwright's `new_page`."""
    page = browser.new_page(**{"viewport": SIZE, **options})
    page.set_default_timeout(1000 * LIMIT_S)
    return page


def idle(page) -> None:
    """Wait until the page is not busy, for example with the opening of a case."""
    page.wait_for_function("!document.querySelector('[data-test=busy]')?.checkVisibility()")


class Picture:
    """The positions of points in the page's straightened view when it shows the whole spine."""

    def __init__(self, page, analysis: SpineAnalysis):
        self.straightening = Straightening(SpineCurve(analysis.curve))
        box = page.query_selector("[data-view=Straightened]").bounding_box()
        length = self.straightening.curve.length
        self.mm = max(2 * ANTERIOR_MM / box["width"], length / box["height"])
        self.center = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.middle = -length / 2

    def xy(self, patient: np.ndarray) -> tuple[float, float]:
        return self.xy_straight(self.straightening.to_straight(patient))

    def xy_straight(self, straight: np.ndarray) -> tuple[float, float]:
        """Return the position of a point in straight mm; anterior is on the left, cranial up."""
        return self.center[0] - straight[1] / self.mm, self.center[1] - (straight[2] - self.middle) / self.mm


def g(page, vertebra_id: str) -> float:
    return float(page.get_attribute(f"tr[data-id={vertebra_id}]", "data-g"))


def cell(page, vertebra_id: str, name: str) -> str:
    return page.inner_text(f"tr[data-id={vertebra_id}] [data-cell={name}]")


def handled(page) -> None:
    """Wait until the server has answered earlier keys, clicks on buttons and events of the mouse in views.

    The page then shows all that the server sent until its last answer, except images, which come later.
    """
    page.evaluate(HANDLED)


def eventually(check, timeout_s: float = LIMIT_S) -> None:
    """Wait until `check` returns true: images and files, for example, come at no fixed time after an act."""
    until = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < until, "the page did not come to the expected state"
        time.sleep(0.05)


def becomes(value, wanted) -> None:
    """Wait until `value()` equals `wanted`; the page may show an answer some frames after it came."""
    with suppress(AssertionError):
        eventually(lambda: value() == wanted)
    assert value() == wanted


def hover(page, x: float, y: float) -> None:
    """Move the mouse to a place in two steps: the move finds the point under the mouse."""
    page.mouse.move(x - 25, y - 25)
    page.mouse.move(x, y)
    handled(page)


def drag(page, vertebra_id: str, start, by, release: bool = True) -> None:
    """Drag a key point of a vertebra until the page shows the last place of the mouse."""
    before = g(page, vertebra_id)
    hover(page, *start)
    page.mouse.down()
    for share in np.linspace(0, 1, 8)[1:]:
        page.mouse.move(start[0] + share * by[0], start[1] + share * by[1])
    handled(page)
    eventually(lambda: g(page, vertebra_id) != before)
    if release:
        page.mouse.up()
        handled(page)


def steady(page, value, answers: int = 6):
    """Wait until a value stays the same while the server answers several times, and return it."""
    latest, same = value(), 0
    while same < answers:
        handled(page)
        now = value()
        same = same + 1 if now == latest else 0
        latest = now
    return latest


def folder_of(output: Path, index: int) -> Path:
    return sorted(p for p in output.iterdir() if p.is_dir())[index]


def saved(folder: Path, condition) -> SpineAnalysis:
    """Wait until `condition` holds for the record on disk, and return it."""
    found: list[SpineAnalysis] = []

    def holds() -> bool:
        found[:] = [read_analysis(folder / "analysis.json")]
        return condition(found[0])

    eventually(holds)
    return found[0]


def press(page, key: str) -> None:
    page.keyboard.press(key)
    handled(page)


def tap(page, key: str, late_ms: float = 0) -> None:
    """Press a key that acts again when it was held, for less than a millisecond; the page reads that `late_ms` later.

    With `press` it is held as long as the browser takes to answer, on a busy computer too long.
    """
    page.evaluate(
        """([key, late]) => {
          const [down, up] = ["keydown", "keyup"].map((type) => new KeyboardEvent(type, {key, bubbles: true}));
          document.body.dispatchEvent(down);
          for (const end = performance.now() + late; performance.now() < end;);
          document.body.dispatchEvent(up);
        }""",
        [key, late_ms],
    )
    handled(page)


def overlay_pixels(page) -> int:
    """Count the coloured pixels of points, lines and labels in the straightened view."""
    image = np.asarray(
        Image.open(io.BytesIO(page.locator("[data-view=Straightened]").screenshot())).convert("RGB"), int
    )
    return int((np.ptp(image[60:-60], axis=-1) > 60).sum())
