"""The keyboard in the page: a listener that hands the keys of `scene.keys.KEYS` to the server."""

from __future__ import annotations

from ..scene.keys import ACTIONS, REPEATED

# Typing in a field is not a command. The views never see a key: VTK has commands of its own on them. A key that is held
# down is one act, not many. [ and ] take AltGr on many keyboards (Ctrl and Alt for Windows), Option on a Mac's.
LISTENER = """
window.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, [contenteditable], .v-menu")) return;
  event.stopPropagation();
  const third = event.getModifierState("AltGraph") || (event.altKey && "[]".includes(event.key));
  if (event.altKey && !third) return;
  const ctrl = (event.ctrlKey || event.metaKey) && !third;
  const typed = event.key.length === 1 && !event.shiftKey ? event.key.toLowerCase() : event.key;
  const name = (ctrl ? "Ctrl+" : "") + (ctrl && event.shiftKey ? "Shift+" : "") + typed;
  if (!KNOWN.includes(name)) return;
  event.preventDefault();
  if (!event.repeat || REPEATED.includes(name)) window.trame.trigger("key", [name]);
}, true);
for (const other of ["keyup", "keypress"])
  window.addEventListener(other, (event) => { if (event.target.closest(".view")) event.stopPropagation(); }, true);
""".replace("KNOWN", str(sorted(ACTIONS))).replace("REPEATED", str(sorted(REPEATED)))
