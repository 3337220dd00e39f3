"""What each tab keeps for itself: its theme, the enlarged view, the folded table; and where its focus goes.

The theme follows the system until the reader chooses the other one; the browser remembers that choice and the folding.
"""

from __future__ import annotations

from typing import Any

from .views import PATIENT

OWN: dict[str, Any] = {"look": "dark", "enlarged": "", "folded": False, "typed": {}}  # what stays in a tab

# Storage may be refused or full; the page then forgets these choices, and nothing else.
LAYOUT = """
(() => {
  const state = window.trame.state;
  const keep = (name, value) => {
    try { value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value); } catch {}
  };
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const bright = matchMedia("(prefers-color-scheme: light)");
  const system = () => bright.matches ? "light" : "dark";
  const look = (theme) => {
    document.documentElement.dataset.look = theme;
    state.set("look", theme);
  };
  const show = () => {
    const chosen = kept("vfq-theme");
    look(["light", "dark"].includes(chosen) ? chosen : system());
  };
  bright.addEventListener("change", show);
  window.vfqTheme = () => {
    const other = state.get("look") === "dark" ? "light" : "dark";
    keep("vfq-theme", other === system() ? null : other);
    look(other);
  };
  window.vfqEnlarge = (name) => state.set("enlarged", state.get("enlarged") === name ? "" : name);
  window.vfqFold = () => {
    state.set("folded", !state.get("folded"));
    keep("vfq-folded", state.get("folded") ? "yes" : null);
  };
  // Later, because the page is not yet listening to the state while this script runs.
  setTimeout(() => {
    show();
    state.set("folded", kept("vfq-folded") === "yes");
  });
  const name = () => {
    const areas = [...document.querySelectorAll(".view .remote-controlled-area")];
    if (areas.length < VIEWS || areas.some((area) => !area.querySelector("img"))) return requestAnimationFrame(name);
    for (const area of areas) {
      area.tabIndex = -1;  // its keys are those of the page
      area.setAttribute("role", "img");
      area.setAttribute("aria-label", `${area.closest(".view").dataset.view} image`);
      area.querySelector("img").alt = "";
    }
  };
  name();

  // A dialog gives the focus back to where it was. The selected row is in sight, and has the focus if a row had it.
  let place = null;
  document.addEventListener("focusin", (event) => {
    if (!event.target.closest(".v-overlay, .v-navigation-drawer")) place = event.target;
  });
  window.vfqReturn = () => requestAnimationFrame(() => place?.isConnected && place.focus());
  window.vfqEnter = (selector) => requestAnimationFrame(() => document.querySelector(selector)?.focus());
  // Up and Down go through the cases of the worklist, from the field for the search to the first one.
  document.addEventListener("keydown", (event) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step || !event.target.closest(".worklist")) return;
    const stops = [document.querySelector("[data-test=search]"), ...document.querySelectorAll("[data-case]")];
    const next = stops[Math.max(0, stops.indexOf(event.target)) + step];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    next.focus();
  }, true);
  window.vfqShowRow = () => requestAnimationFrame(() => {
    const row = document.querySelector("tr[data-id].selected");
    row?.scrollIntoView({block: "nearest"});
    if (row && document.activeElement?.matches("tr[data-id]")) row.focus();
  });
})();
"""
LAYOUT = LAYOUT.replace("VIEWS", str(1 + len(PATIENT)))
