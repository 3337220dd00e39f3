"""The keyboard in the page: a listener that hands the keys of `scene.keys.KEYS` to the server."""

from __future__ import annotations

from ..scene.keys import ACTIONS

# Typing in a field is not a command. The views never see a key: VTK has commands of its own on them.
LISTENER = """
window.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, [contenteditable], .v-menu")) return;
  event.stopPropagation();
  if (event.altKey) return;
  const ctrl = event.ctrlKey || event.metaKey;
  const name = (ctrl ? "Ctrl+" : "") + (ctrl && event.shiftKey ? "Shift+" : "") + event.key;
  if (!KNOWN.includes(name)) return;
  event.preventDefault();
  window.trame.trigger("key", [name]);
}, true);
for (const other of ["keyup", "keypress"])
  window.addEventListener(other, (event) => { if (event.target.closest(".view")) event.stopPropagation(); }, true);
""".replace("KNOWN", str(sorted(ACTIONS)))
