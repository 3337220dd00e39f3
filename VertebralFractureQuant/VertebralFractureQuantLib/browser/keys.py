"""Keyboard shortcuts of the page: a listener that sends the keys of `scene.keys.KEYS` to the server."""

from __future__ import annotations

from collections.abc import Iterable

from ..scene.keys import ACTIONS, HELD, LAYOUT_KEYS, REPEATED
from .views import PATIENT, STRAIGHTENED

HELD_MS = 400  # a key that is held down longer acts again when it is released

# Keys typed into a field are text, not commands. The views receive no keys, because VTK binds some itself. A key that
# is held down counts once. Many keyboards need AltGr for [ and ] (Windows: Ctrl and Alt), a Mac needs Option.
# Space and Enter press a focused button or open a focused case, as everywhere; but Enter ends clicking, whichever
# button began it. Arrows go from case to case in the worklist.
LISTENER = """
let held = null;
const act = (name) => window.vfqInOrder(() => window.trame.trigger("key", [name]));
const copy = (told) => async (text) => {
  let copied = true;
  try { await navigator.clipboard.writeText(text); } catch { copied = false; }
  window.trame.state.set(told, copied);
};
window.vfqCopy = copy("copied");
window.vfqCopyPath = copy("path_copied");
const back = sessionStorage.getItem("vfq-place");
if (back) {
  sessionStorage.removeItem("vfq-place");
  window.trame.trigger("return_to", JSON.parse(back));
}
window.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, textarea, select, [contenteditable], .v-menu");
  if (field && !(event.key === "Escape" && event.target.closest(".worklist"))) return;
  const clicking = event.key === "Enter" && window.trame.state.get("mode");
  const pressed = event.target.closest("button, a[href], [role=button], .v-list-item");
  if ([" ", "Enter"].includes(event.key) && !clicking && pressed) return;
  if (event.key.startsWith("Arrow") && event.target.closest(".v-list-item, .worklist")) return;
  event.stopPropagation();
  const third = event.getModifierState("AltGraph") || (event.altKey && "[]".includes(event.key));
  if (event.altKey && !third) return;
  const ctrl = (event.ctrlKey || event.metaKey) && !third;
  const typed = event.key.length === 1 && !event.shiftKey ? event.key.toLowerCase() : event.key;
  const name = (ctrl ? "Ctrl+" : "") + (ctrl && event.shiftKey ? "Shift+" : "") + typed;
  if (!KNOWN.includes(name) && !LAYOUT.includes(name)) return;
  event.preventDefault();
  if (LAYOUT.includes(name)) {
    if (event.repeat || window.trame.state.get("help_open")) return;
    return VIEWS[name - 1] ? window.vfqEnlarge(VIEWS[name - 1]) : window.vfqFold();
  }
  if (!event.repeat || REPEATED.includes(name)) act(name);
  if (!event.repeat && HELD.includes(name)) held = {name, since: event.timeStamp};
}, true);
const release = (event) => {  // times of the key itself: a busy page reads a short press late
  if (held && event.timeStamp - held.since > HELD_MS) act(held.name);
  held = null;
};
window.addEventListener("keyup", (event) => {
  if (held && event.key.toLowerCase() === held.name) release(event);
}, true);
window.addEventListener("blur", release);
for (const other of ["keyup", "keypress"])
  window.addEventListener(other, (event) => { if (event.target.closest(".view")) event.stopPropagation(); }, true);
"""
LISTENER = LISTENER.replace("HELD_MS", str(HELD_MS)).replace("HELD.", f"{list(HELD)}.")
LAYOUT = [key for entry in LAYOUT_KEYS for key in entry.keys]
LISTENER = LISTENER.replace("VIEWS", str([STRAIGHTENED, *PATIENT]))


def listener(known: Iterable[str] = ACTIONS, repeated: Iterable[str] = REPEATED) -> str:
    """Return the script that sends the keys `known`; those in `repeated` act again while they are held down.

    A key of the page's layout that is among `known` is sent, and does nothing to the layout.
    """
    known = sorted(known)
    own = LISTENER.replace("LAYOUT", str([key for key in LAYOUT if key not in known]))
    return own.replace("KNOWN", str(known)).replace("REPEATED", str(sorted(repeated)))
