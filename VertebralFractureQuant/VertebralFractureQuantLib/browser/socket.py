"""How the page reads messages of the server: as array buffers, which are at hand at once.

trame's client (wslink) asks the WebSocket for blobs, and waits for two copies out of the browser's own process for each
message. During a drag that is up to 6 ms between a message and its number. An `ArrayBuffer` with the one method of a
`Blob` that wslink calls passes through the same code without waiting.
"""

from __future__ import annotations

# The socket is known to the client alone; the next message that it sends shows it.
SCRIPT = """
Object.defineProperty(ArrayBuffer.prototype, "arrayBuffer", {value: async function () { return this; }});
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (...message) {
  WebSocket.prototype.send = send;
  this.binaryType = "arraybuffer";
  return send.apply(this, message);
};
"""
