"""The window of the page's views: its menu, and the reader's last choice, which the browser keeps.

The browser keeps it for the page's address, so for each folder of results: across cases, tabs and restarts.
"""

from __future__ import annotations

from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from ..scene.viewpoint import OWN
from ..scene.volumes import PRESETS
from .session import Session

NAMES = {"bone": "Bone", "soft": "Soft tissue", "auto": "Auto", OWN: "Adjusted"}
SCRIPT = """
window.vfqKeepWindow = ([preset, window]) => {
  if (!window[0]) return;  // no study is open yet
  try { localStorage.setItem("vfq-window", JSON.stringify([preset, ...window])); } catch {}
};
try {
  const kept = JSON.parse(localStorage.getItem("vfq-window"));
  if (Array.isArray(kept)) window.trame.trigger("restore_window", kept);
} catch {}
"""


def create_menu(session: Session) -> None:
    """Show the window where this is called in the layout; a click opens the menu of presets."""
    client.ClientStateChange(value="[preset, window]", change="utils.get('vfqKeepWindow')($event)")
    with v3.VMenu():
        with v3.Template(v_slot_activator="{ props }"):
            html.Button(
                f"{{{{ {NAMES}[preset] }}}}",
                v_bind="props",
                type="button",
                classes="link mr-2",
                title="Window of all views (w)",
                raw_attrs=['data-test="preset"'],
            )
        with v3.VList(density="compact"):
            for preset in PRESETS:
                v3.VListItem(
                    title=NAMES[preset],
                    click=(session.act, f"['choose_window', '{preset}']"),
                    raw_attrs=[f'data-test="window-{preset}"'],
                )
