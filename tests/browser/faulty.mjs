// A proxy between a browser and a board that does what proxies do to streams; its faults can be
// changed while it runs.
import http from "node:http";

export class Faulty {
  /** `faults`: buffers (holds answers back until they end), cutsMs (ends answers that take longer),
   * status (answers so, and asks nobody). It never passes on an Upgrade. */
  static async to(board, faults = {}) {
    const proxy = new Faulty();
    Object.assign(proxy, { faults, asked: [] });
    proxy.server = http.createServer((asked, answer) => proxy.pass(asked, answer, board.port));
    proxy.server.on("upgrade", (_, socket) => {
      proxy.asked.push("upgrade");
      socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    });
    proxy.server.listen(0, "127.0.0.1");
    await new Promise((done) => proxy.server.once("listening", done));
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  pass(asked, answer, port) {
    const { buffers, cutsMs, status } = this.faults;
    this.asked.push(asked.url);
    if (status) {
      answer.writeHead(status, { "Content-Type": "text/html" });
      return answer.end("<h1>Bad Gateway</h1>");
    }
    const { method, url: path, headers } = asked;
    const far = http.request({ host: "127.0.0.1", port, method, path, headers }, (answered) => {
      answer.on("close", () => far.destroy());
      answered.on("error", () => answer.destroy());
      answer.writeHead(answered.statusCode, answered.headers);
      if (cutsMs) setTimeout(() => answer.writableEnded || answer.destroy(), cutsMs);
      if (!buffers) {
        answer.flushHeaders();
        return answered.pipe(answer);
      }
      const pieces = [];
      answered.on("data", (piece) => pieces.push(piece));
      return answered.on("end", () => answer.end(Buffer.concat(pieces)));
    });
    far.on("error", () => answer.destroy());
    return asked.pipe(far);
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
