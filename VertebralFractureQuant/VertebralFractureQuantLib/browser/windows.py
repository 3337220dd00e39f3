"""The window of the page's views: its menu, and the reader's last choice, which the browser keeps.

The browser keeps it for the page's address, so for each folder of results: across cases, tabs and restarts.
"""

from __future__ import annotations

from trame.widgets import client, html

from ..scene.viewpoint import OWN
from ..scene.volumes import PRESETS
from .session import Session

NAMES = {"bone": "Bone", "soft": "Soft tissue", "auto": "Auto", OWN: "Adjusted"}
SCRIPT = """
window.vfqKeepWindow = ([preset, window]) => {
  if (!window[0]) return;  // no study is open yet
  try { localStorage.setItem("vfq-window", JSON.stringify([preset, ...window])); } catch {}
};
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-test=preset]")) event.target.blur();  // the keys are commands again
});
try {
  const kept = JSON.parse(localStorage.getItem("vfq-window"));
  if (Array.isArray(kept)) window.trame.trigger("restore_window", kept);
} catch {}
"""


def create_menu(session: Session) -> None:
    """Show the window where this is called in the layout, with the presets to choose from."""
    client.ClientStateChange(value="[preset, window]", change="utils.get('vfqKeepWindow')($event)")
    title = "Window of all views (w)"
    with html.Select(
        change=(session.act, "['choose_window', $event.target.value]"),
        classes="preset",
        raw_attrs=['data-test="preset"', ':value="preset"', f'title="{title}"', f'aria-label="{title}"'],
    ):
        for preset in PRESETS:
            html.Option(NAMES[preset], value=preset)
        html.Option(NAMES[OWN], value=OWN, disabled=True)
