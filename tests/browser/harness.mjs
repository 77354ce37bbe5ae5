// What the browser tests stand on: the real binary as a child, a link that can be cut, a browser.
//
// Everything is on 127.0.0.1; each process started here is ended here, by its own handle.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const SHOTS = path.join(path.dirname(fileURLToPath(import.meta.url)), "shots");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const START_MS = 10_000;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((done) => probe.once("listening", done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}

/** The binary under test, serving on `port`; `kill` is SIGKILL, as when the power goes. */
export class Board {
  constructor(port) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** Serves with `config` (TOML), or without any: the defaults; `flags` as on the command line. */
  static async start(port, config, flags = []) {
    const binary = process.env.ENCKE_BIN;
    assert.ok(binary, "set ENCKE_BIN to the path of the binary to test");
    const board = new Board(port ?? (await freePort()));
    board.home = mkdtempSync(path.join(tmpdir(), "encke-browser-"));
    if (config) {
      mkdirSync(path.join(board.home, "encke"));
      writeFileSync(path.join(board.home, "encke", "encke.toml"), config);
    }
    board.child = spawn(binary, ["serve", "--listen", `127.0.0.1:${board.port}`, ...flags], {
      env: { ...process.env, XDG_CONFIG_HOME: board.home }, // no configuration but this
      stdio: ["ignore", "ignore", "inherit"],
    });
    board.ended = new Promise((done) => board.child.once("exit", done));
    const deadline = Date.now() + START_MS;
    for (;;) {
      assert.equal(board.child.exitCode, null, `${binary} ended before it listened`);
      if (await fetch(board.url).then((answer) => answer.ok, () => false)) return board;
      assert.ok(Date.now() < deadline, `${binary} did not listen within ${START_MS} ms`);
      await sleep(50);
    }
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
    rmSync(this.home, { recursive: true, force: true });
  }

  /** Ends it as systemd does; its exit code. */
  async drain() {
    this.child.kill("SIGTERM");
    return this.ended;
  }

  async publish(topic, value) {
    return this.post(`/topics/${topic}`, value);
  }

  /** `events` in batches as large as one request may carry. */
  async publishMany(events) {
    for (let from = 0; from < events.length; from += 256) {
      await this.post("/topics", events.slice(from, from + 256));
    }
  }

  async post(to, value) {
    const answer = await fetch(this.url + to, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
    assert.equal(answer.status, 200, `POST ${to}: ${await answer.clone().text()}`);
    return answer.json();
  }
}

/** A link to `board` that can be `cut` (refused), made `silent` (open, but dead) and `mend`ed. */
export class Link {
  static async to(board) {
    const link = new Link();
    link.state = "whole";
    link.pairs = new Set();
    link.server = net.createServer((near) => link.join(near, board.port));
    link.server.listen(0, "127.0.0.1");
    await new Promise((done) => link.server.once("listening", done));
    link.url = `http://127.0.0.1:${link.server.address().port}`;
    return link;
  }

  join(near, port) {
    near.on("error", () => {});
    if (this.state === "cut") return near.resetAndDestroy();
    if (this.state === "silent") return this.pairs.add([near]);
    const far = net.connect(port, "127.0.0.1").on("error", () => near.destroy());
    const pair = [near, far];
    this.pairs.add(pair);
    near.pipe(far).pipe(near);
    near.once("close", () => far.destroy());
    far.once("close", () => near.destroy());
    near.once("close", () => this.pairs.delete(pair));
    return pair;
  }

  cut() {
    this.state = "cut";
    for (const pair of this.pairs) pair[0].resetAndDestroy();
  }

  silent() {
    this.state = "silent";
    for (const [near, far] of this.pairs) {
      if (!far) continue; // it is so already
      near.unpipe(far);
      far.unpipe(near);
      far.destroy();
      near.removeAllListeners("close");
      far.removeAllListeners("close");
    }
  }

  mend() {
    this.state = "whole";
  }

  close() {
    this.cut();
    this.server.close();
  }
}

/** A browser; `flags` as `--host-resolver-rules=MAP NAME 127.0.0.1`, `without` those of playwright. */
export async function launch(flags = [], without = []) {
  mkdirSync(SHOTS, { recursive: true });
  return chromium.launch({
    executablePath: process.env.ENCKE_CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    ignoreDefaultArgs: without,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      ...flags],
  });
}

/**
 * A page as on a phone. `page.faults` collects what must not happen: errors of the script and of
 * the console. What the browser itself notes about a link that is down is not the page's fault.
 */
export async function phone(browser, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 390, height: 844 },
    deviceScaleFactor: 2,
    ...options,
  });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("dialog", (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    const text = message.text();
    const isLink = /net::ERR_(CONN|INCOMPLETE|EMPTY|NETWORK|SOCKET|ABORTED|FAILED)/.test(text)
      || /^WebSocket connection to '[^']*' failed: /.test(text);
    const isIcon = /\/favicon\.ico$/.test(message.location().url); // of a page that is none of ours
    if (message.type() === "error" && !isLink && !isIcon) page.faults.push(text);
  });
  return page;
}

export const live = (page) => page.waitForSelector("[data-state=live]", { timeout: 20_000 });

/** The tile of `topic`. */
export const tile = (page, topic) => page.locator(`.tile[title="${topic}"]`);

export async function saysInHeader(page, pattern, timeout = 10_000) {
  await page.waitForFunction(
    (source) => new RegExp(source).test(document.querySelector("header").innerText),
    pattern.source,
    { timeout },
  );
}

/** What axe (Deque's rules for WCAG and good practice) finds wrong with the page as it is. */
export async function flaws(page) {
  await page.evaluate(AXE);
  const { violations, passes } = await page.evaluate(() => window.axe.run());
  assert.ok(passes.length > 10, "axe looked at hardly anything");
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join("  ")}`);
}

export const shot = (page, name) => page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
