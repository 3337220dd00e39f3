"""Keys after the mouse: a key acts when the server has answered the clicks in the views that came before it.

The views send their events of the mouse one by one, each after the answer to the one before. A key that did not wait
would overtake a click on a busy computer, and reject the vertebra that was selected before the click.
"""

from __future__ import annotations

LIMIT_MS = 20_000  # a key does not wait longer, should a view not send a click

# The client keeps its calls to itself; the messages that leave and come show them.
SCRIPT = """
(() => {
  const CALL = /(rpc:[^:]+:[0-9]+)[^]*trame.rca.event[^]*Button(Press|Release)/, ANSWER = /rpc:[^:]+:[0-9]+/;
  const start = (data) => new TextDecoder("latin1").decode(data.slice(0, 400));
  const send = WebSocket.prototype.send, sockets = new WeakSet(), sent = new Map();
  let clicked = 0, answered = 0, inView = false, waiting = [], timer = 0;
  const go = () => {
    const acts = waiting;
    waiting = [];
    clearTimeout(timer);
    for (const act of acts) act();
  };
  const receive = async ({data}) => {
    const id = sent.size && start(await data.arrayBuffer()).match(ANSWER)?.[0];
    if (!sent.has(id)) return;
    answered = Math.max(answered, sent.get(id));
    sent.delete(id);
    if (answered >= clicked) go();
  };
  WebSocket.prototype.send = function (data, ...more) {
    if (!sockets.has(this)) this.addEventListener("message", receive);
    sockets.add(this);
    const call = start(data).match(CALL);
    if (call) sent.set(call[1], performance.now());
    return send.call(this, data, ...more);
  };
  const click = (event) => {
    const mouse = event.pointerType === "mouse" && event.button <= 2;
    const view = mouse && event.target.closest?.(".view .remote-controlled-area");
    if (event.type === "pointerdown") inView = !!view;
    if (view && inView) clicked = performance.now();
  };
  window.addEventListener("pointerdown", click, true);
  window.addEventListener("pointerup", click, true);
  window.vfqInOrder = (act) => {
    if (answered >= clicked && !waiting.length) return act();
    waiting.push(act);
    if (waiting.length === 1) timer = setTimeout(go, LIMIT_MS);
  };
})();
""".replace("LIMIT_MS", str(LIMIT_MS))
