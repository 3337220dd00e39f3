"""What the page does with wheels, trackpads and fingers in its views, before the views send it to the server.

The wheel counts by distance: a notch of a mouse wheel is one plane, and a trackpad moves one plane for each `PLANE_PX`.
One finger is the left button of a mouse that was there before it was pressed; two fingers zoom and move the image.
"""

from __future__ import annotations

NOTCH_PX = 100  # of a mouse wheel, in most browsers; Firefox counts three lines instead
PLANE_PX = 40  # of a trackpad
ZOOM_PX = 12  # of two fingers on a trackpad, for one step of the zoom
PRESS_MS = 120  # a finger that rests for so long, or moves, is a press; a second finger before that begins a pinch
MOVED_PX = 6

# Events that this script sends itself are not trusted by the browser, and pass.
POINTER = """
(() => {
  const AREA = ".view .remote-controlled-area";
  const take = (event) => {
    const area = event.isTrusted && event.target.closest?.(AREA);
    if (area) { event.stopPropagation(); if (event.cancelable) event.preventDefault(); }
    return area;
  };

  let rest = 0, last = 0;
  const steps = (event) => {
    if (event.deltaMode) return event.deltaY / 3;
    if (Math.abs(event.deltaY) >= NOTCH_PX) return Math.round(event.deltaY / (NOTCH_PX * 1.1));
    return event.deltaY / (event.ctrlKey ? ZOOM_PX : PLANE_PX);
  };
  window.addEventListener("wheel", (event) => {
    if (!take(event)) return;
    const by = steps(event), {clientX, clientY, ctrlKey, shiftKey, altKey, metaKey} = event;
    if (by * rest < 0 || event.timeStamp - last > 400) rest = 0;
    rest += by;
    last = event.timeStamp;
    for (; Math.abs(rest) >= .999; rest -= Math.sign(rest))
      event.target.dispatchEvent(new WheelEvent("wheel", {deltaY: Math.sign(rest) * NOTCH_PX, clientX, clientY, ctrlKey,
        shiftKey, altKey, metaKey, bubbles: true, cancelable: true}));
  }, {capture: true, passive: false});

  const fingers = new Map();
  let press = null, pinch = null;
  const asMouse = (type, finger, buttons) => press.target.dispatchEvent(new PointerEvent(type, {
    pointerId: press.id, pointerType: "mouse", isPrimary: true, button: type === "pointermove" ? -1 : 0, buttons,
    clientX: finger.x, clientY: finger.y, bubbles: true, cancelable: true}));
  const begin = () => {
    if (!press || press.down) return;
    press.down = true;
    asMouse("pointermove", press, 0);
    asMouse("pointerdown", press, 1);
  };
  const spread = () => {
    const [a, b] = [...fingers.values()], {left, bottom, width, height} = pinch.area.getBoundingClientRect();
    return {at: [(a.x + b.x) / 2 - left, bottom - (a.y + b.y) / 2], area: [width, height],
      apart: Math.max(20, Math.hypot(a.x - b.x, a.y - b.y))};
  };
  const follow = async (mine) => {
    if (mine.sending) return;
    mine.sending = true;
    while (mine.next) {
      const before = mine.sent, now = mine.next;
      mine.sent = now;
      mine.next = null;
      await window.trame.trigger("pinch", [mine.view, before.at, now.at, now.apart / before.apart, now.area]);
    }
    mine.sending = false;
  };
  window.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch" || !take(event)) return;
    const area = event.target.closest(AREA);
    fingers.set(event.pointerId, {x: event.clientX, y: event.clientY});
    if (fingers.size === 1) {
      press = {id: event.pointerId, target: event.target, x: event.clientX, y: event.clientY, down: false};
      const mine = press;
      setTimeout(() => { if (press === mine) begin(); }, PRESS_MS);
    } else if (fingers.size === 2 && press && !press.down && area.contains(press.target)) {
      press = null;
      pinch = {view: area.closest(".view").dataset.view, area};
      pinch.sent = spread();
    }
  }, true);
  window.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId) || !event.isTrusted) return;
    event.stopPropagation();
    const finger = {x: event.clientX, y: event.clientY};
    fingers.set(event.pointerId, finger);
    if (pinch) { pinch.next = spread(); follow(pinch); }
    if (!press || press.id !== event.pointerId) return;
    if (Math.hypot(finger.x - press.x, finger.y - press.y) > MOVED_PX) begin();
    if (press.down) asMouse("pointermove", finger, 1);
  }, true);
  const lift = (event) => {
    if (!event.isTrusted || !fingers.has(event.pointerId)) return;
    event.stopPropagation();
    const finger = {x: event.clientX, y: event.clientY};
    if (fingers.size === 2) pinch = null;
    fingers.delete(event.pointerId);
    if (press && press.id === event.pointerId) {
      begin();
      asMouse("pointerup", event.type === "pointercancel" ? press : finger, 0);
      press = null;
    }
  };
  window.addEventListener("pointerup", lift, true);
  window.addEventListener("pointercancel", lift, true);

  // The views have the size of the tab that the reader uses. It changes only while no button is pressed.
  const tab = Math.random().toString(36).slice(2);
  const claim = () => {
    const sizes = {};
    for (const view of document.querySelectorAll("[data-view]")) {
      const {width, height} = view.querySelector(".remote-controlled-area")?.getBoundingClientRect() ?? {};
      if (width && height) sizes[view.dataset.view] = {w: width, h: height, p: Math.max(1, devicePixelRatio)};
    }
    window.trame.trigger("claim", [tab, sizes]);
  };
  let asked = tab;  // the tab whose sizes this one asked to replace
  const back = (event) => {
    const owner = window.trame.state.get("size_of");
    if (owner === asked || event.buttons || document.hidden) return;
    if (owner !== tab) claim();
    asked = owner;
  };
  let soon = 0;
  window.addEventListener("resize", () => { clearTimeout(soon); soon = setTimeout(claim, 200); });
  window.addEventListener("pointermove", (event) => event.isTrusted && event.pointerType === "mouse" && back(event));
  document.addEventListener("visibilitychange", back);
  window.addEventListener("pointerup", (event) => setTimeout(back, 100, {buttons: event.buttons}));
})();
"""
for _name in ("NOTCH_PX", "PLANE_PX", "ZOOM_PX", "PRESS_MS", "MOVED_PX"):
    POINTER = POINTER.replace(_name, str(globals()[_name]))
