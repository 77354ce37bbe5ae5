// What the JavaScript interop tests share: a server of their own and a proxy that cuts.
//
// Everything listens on 127.0.0.1, every wait ends, and only processes started here are ended.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

const BINARY =
  process.env.ENCKE_BIN ?? new URL("../../target/release/encke", import.meta.url).pathname;
const QUIET = '[sources]\nexclude = ["#"]\n';

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function listen(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server.address().port;
}

/** A running Encke without sources of its own, unless `config` says otherwise. */
export class Server {
  static async start(config = QUIET) {
    const server = new Server();
    const probe = net.createServer();
    server.port = await listen(probe);
    await new Promise((done) => probe.close(done));
    server.url = `http://127.0.0.1:${server.port}`;
    server.folder = mkdtempSync(path.join(tmpdir(), "encke-interop-"));
    server.config = path.join(server.folder, "encke.toml");
    writeFileSync(server.config, config);
    await server.startAgain();
    return server;
  }

  async startAgain() {
    const listens = ["--listen", `127.0.0.1:${this.port}`];
    this.child = spawn(BINARY, ["serve", "--config", this.config, ...listens], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    this.exited = once(this.child, "exit");
    for (let tries = 0; tries < 500; tries += 1) {
      assert.equal(this.child.exitCode, null, "the server ended before it answered");
      if (await fetch(`${this.url}/health`).then((answer) => answer.ok, () => false)) return;
      await sleep(20);
    }
    assert.fail("the server did not answer within 10 s");
  }

  /** Ends it; what it exited with, or the signal. */
  async end(how = "SIGTERM") {
    this.child.kill(how);
    const [code, signal] = await this.exited;
    return code ?? signal;
  }

  async close() {
    await this.end();
    rmSync(this.folder, { recursive: true });
  }

  async publish(topic, value) {
    return this.send("PUT", `/topics/${topic}`, value);
  }

  /** Publishes the numbers from `from` to below `to`, in order, at most 100 in one request. */
  async publishNumbers(topic, from, to) {
    for (let at = from; at < to; at += 100) {
      const length = Math.min(100, to - at);
      await this.send("POST", "/topics", Array.from({ length }, (_, n) => ({ topic, value: at + n })));
    }
  }

  async send(method, to, value) {
    const body = JSON.stringify(value);
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(this.url + to, { method, headers, body });
    assert.ok(answer.ok, await answer.clone().text());
    return answer.json();
  }
}

/** A proxy that cuts its first `cuts` connections, each after 1 to `bytesMax` bytes of answer. */
export class CuttingProxy {
  static async start(targetPort, bytesMax, cuts) {
    const proxy = new CuttingProxy();
    proxy.cuts = 0;
    proxy.planned = Array.from({ length: cuts }, () => 1 + Math.floor(Math.random() * bytesMax));
    proxy.plan = [...proxy.planned]; // shown when a test fails
    proxy.listener = net.createServer((client) => proxy.carry(client, targetPort));
    proxy.url = `http://127.0.0.1:${await listen(proxy.listener)}`;
    return proxy;
  }

  carry(client, targetPort) {
    let left = this.planned.shift() ?? Infinity;
    const server = net.connect(targetPort, "127.0.0.1");
    const drop = () => [client, server].forEach((socket) => socket.destroy());
    for (const socket of [client, server]) socket.on("error", drop).on("close", drop);
    client.on("data", (piece) => server.write(piece));
    server.on("data", (piece) => {
      if (left <= 0) return;
      const part = piece.subarray(0, left);
      left -= part.length;
      if (left > 0) return void client.write(part);
      this.cuts += 1;
      client.end(part);
      server.destroy();
    });
  }

  close() {
    this.listener.close();
  }
}
