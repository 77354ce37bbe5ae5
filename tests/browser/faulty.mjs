// A proxy between a browser and a board that does what proxies do to streams; its faults can be
// changed while it runs.
import http from "node:http";

const HELD_BYTES = 2048; // less than a quarter of the page

export class Faulty {
  /** `faults`: buffers (holds answers back until they end), cutsMs (ends answers that take longer),
   * status (answers so, and asks nobody), holds (of the page passes on HELD_BYTES, and the rest
   * when this promise is kept). It never passes on an Upgrade. */
  static async to(board, faults = {}) {
    const proxy = new Faulty();
    Object.assign(proxy, { faults, asked: [], answers: new Set() });
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
    const { buffers, cutsMs, status, holds } = this.faults;
    this.asked.push(asked.url);
    if (status) {
      answer.writeHead(status, { "Content-Type": "text/html" });
      return answer.end("<h1>Bad Gateway</h1>");
    }
    const { method, url: path, headers } = asked;
    this.answers.add(answer);
    answer.on("close", () => this.answers.delete(answer));
    const far = http.request({ host: "127.0.0.1", port, method, path, headers }, (answered) => {
      answer.on("close", () => far.destroy());
      answered.on("error", () => answer.destroy());
      answer.writeHead(answered.statusCode, answered.headers);
      if (cutsMs) setTimeout(() => answer.writableEnded || answer.destroy(), cutsMs);
      if (holds && path === "/") return hold(answered, answer, holds).catch(() => answer.destroy());
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

  /** What is being answered. */
  get open() {
    return [...this.answers].map(({ req }) => req.url);
  }

  /** Ends answers in the middle. */
  cut(isMeant) {
    for (const answer of this.answers) if (isMeant(answer.req.url)) answer.destroy();
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

async function hold(answered, answer, held) {
  const pieces = [];
  for await (const piece of answered) pieces.push(piece);
  const whole = Buffer.concat(pieces);
  answer.write(whole.subarray(0, HELD_BYTES));
  await held;
  answer.end(whole.subarray(HELD_BYTES));
}
