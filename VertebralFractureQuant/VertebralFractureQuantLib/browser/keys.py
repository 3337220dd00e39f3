"""Keyboard shortcuts of the page: a listener that sends the keys of `scene.keys.KEYS` to the server."""

from __future__ import annotations

from ..scene.keys import ACTIONS, REPEATED

# Keys typed into a field are text, not commands. The views receive no keys, because VTK binds some itself. A key that
# is held down counts once. Many keyboards need AltGr for [ and ] (Windows: Ctrl and Alt), a Mac needs Option.
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
