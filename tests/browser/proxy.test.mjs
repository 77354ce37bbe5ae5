// A page behind a real nginx: it signs in and publishes, and nobody else does.
// ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { Board, flaws, freePort, launch, live, phone, shot, sleep, tile } from "./harness.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const FAR = "203.0.113.7";
const WRITES = `write = ["demo/#"]`;
const FORWARDING = `proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`;
const TRUSTED = `trusted_proxies = ["127.0.0.1"]`;

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** nginx with `lines` beside its proxy_pass to `board`, which knows nothing of its port. */
class Nginx {
  static async start(port, board, lines) {
    const nginx = new Nginx();
    nginx.url = `http://127.0.0.1:${port}`;
    nginx.folder = mkdtempSync(path.join(tmpdir(), "encke-nginx-"));
    const own = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) =>
      `${kind}_temp_path ${nginx.folder}/${kind};`);
    const conf = path.join(nginx.folder, "conf");
    writeFileSync(conf, `daemon off; master_process off; pid ${nginx.folder}/pid;
      error_log ${nginx.folder}/error.log; events { worker_connections 256; }
      http { access_log off; ${own.join(" ")} server { listen 127.0.0.1:${port};
        location / { proxy_pass http://127.0.0.1:${board.port}; ${lines} } } }`);
    // Debian keeps it where only root's PATH leads; scripts/test may have unpacked it for itself.
    const folders = ["/usr/sbin", path.join(HERE, "../.venv/nginx/usr/sbin")];
    const found = folders.map((folder) => path.join(folder, "nginx")).find(existsSync);
    assert.ok(found, "nginx is missing; scripts/test installs it");
    nginx.child = spawn(found, ["-p", nginx.folder, "-c", conf, "-e", `${nginx.folder}/error.log`],
      { stdio: ["ignore", "ignore", "inherit"] });
    nginx.ended = new Promise((done) => nginx.child.once("exit", done));
    for (let i = 0; ; i += 1) {
      assert.equal(nginx.child.exitCode, null, "nginx ended");
      if (await fetch(`${nginx.url}/health`).then((answer) => answer.ok, () => false)) return nginx;
      assert.ok(i < 200, "nginx did not answer within 10 s");
      await sleep(50);
    }
  }

  async end() {
    this.child.kill();
    await this.ended;
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Status and body of a request as if from `address`, which another proxy before this one says. */
  async ask(address, method, to, credential) {
    const headers = { "X-Forwarded-For": address };
    if (credential) headers.Authorization = `Bearer ${credential}`;
    const answer = await fetch(this.url + to, { method, headers });
    return { status: answer.status, body: await answer.text() };
  }

  /** A stream as if from `address`; `close` ends it. */
  stream(address, credential) {
    const headers = { "X-Forwarded-For": address, Authorization: `Bearer ${credential}` };
    const request = http.get(`${this.url}/events/stream`, { headers, agent: false });
    return new Promise((done, fail) => {
      request.on("error", fail).on("response", (answer) => {
        answer.on("error", () => {}).resume();
        done({ status: answer.statusCode, close: () => request.destroy() });
      });
    });
  }
}

/** What `encke token` prints: rows for the configuration, and the token. */
function made(name) {
  const text = execFileSync(process.env.ENCKE_BIN, ["token", name, "--config", "/dev/null"],
    { encoding: "utf8" });
  const rows = `${text.split("\n\n")[0]}\n`.replace(/^write = .*$/m, WRITES);
  assert.ok(rows.includes(WRITES), rows);
  return { rows, token: text.match(/^token: +(\S+)$/m)[1] };
}

/** Runs `act` with a board behind nginx; `server` and `more` are of its configuration. */
async function behind(lines, { server = "", more = "", origins = true }, act) {
  const port = await freePort();
  const { rows, token } = made("phone");
  const known = origins ? `origins = ["http://127.0.0.1:${port}"]` : "";
  const config = `[server]\n${known}\n${server}\n${rows}\n${more}\n`;
  const board = await Board.start(undefined, config);
  const nginx = await Nginx.start(port, board, lines).catch(async (error) => {
    await board.kill();
    throw error;
  });
  try {
    await act({ board, nginx, token });
  } finally {
    await nginx.end();
    await board.kill();
  }
}

/** A page of `url`, on a phone; notes of requests that were refused are none of its faults. */
async function withPage(url, act) {
  const page = await phone(browser);
  try {
    await page.goto(url);
    await act(page);
    const isRefusal = (fault) => /status of (401|403)|ERR_FAILED|CORS/.test(fault);
    assert.deepEqual(page.faults.filter((fault) => !isRefusal(fault)), []);
  } finally {
    await page.context().close();
  }
}

/** The status of publishing from inside the page. */
const publish = (page, topic, value) => page.evaluate(async ([to, body]) => {
  const answer = await fetch(to, { method: "POST", body });
  return { status: answer.status, said: await answer.text() };
}, [`/topics/${topic}`, value]);

async function signIn(page, token) {
  const panel = page.locator("#sign");
  // It opens by itself where nothing can be read.
  await page.locator("#sign:visible, [data-state=live]").first().waitFor({ state: "attached" });
  if (!await panel.isVisible()) await page.locator("#who button").click();
  await page.getByLabel("Token").fill(token);
  await panel.getByRole("button", { name: "Sign in" }).click();
}

const shown = (page, topic, text) =>
  tile(page, topic).getByText(text, { exact: true }).waitFor({ timeout: 10_000 });

/** The last value of a topic, asked by who may read it. */
const last = async (board, token, topic) => {
  const answer = await fetch(`${board.url}/topics/${topic}`,
    { headers: { Authorization: `Bearer ${token}` } });
  return answer.status === 404 ? undefined : (await answer.json()).value;
};

/** Somebody else's page, which has a visitor's browser send what it can; the board's answers. */
async function evil(page, nginx, token) {
  const other = http.createServer((_, answer) =>
    answer.setHeader("Content-Type", "text/html").end("<!doctype html><title>evil</title>"));
  other.listen(0, "127.0.0.1");
  await new Promise((done) => other.once("listening", done));
  const tab = await page.context().newPage();
  const answers = [];
  tab.on("response", (answer) => {
    if (answer.url().startsWith(nginx.url)) answers.push(answer.status());
  });
  try {
    // Of the same site, whose cookie is sent with it, and of another one.
    for (const host of ["127.0.0.1", "localhost"]) {
      await tab.goto(`http://${host}:${other.address().port}`);
      await tab.evaluate(async ([to, shownToken]) => {
        const quiet = (sent) => sent.catch(() => {});
        const simple = { method: "POST", mode: "no-cors", credentials: "include" };
        await quiet(fetch(`${to}/topics/demo/evil`, { ...simple, body: "1" }));
        await quiet(fetch(`${to}/session`, { ...simple, body: shownToken }));
        await quiet(fetch(`${to}/topics/demo/evil`, { method: "PUT", body: "1" }));
      }, [nginx.url, token]);
      const form = `<form method="post" enctype="text/plain" action="${nginx.url}/topics/demo/evil">
        <input name="1" value=""></form>`;
      await tab.setContent(form);
      await Promise.all([
        tab.waitForURL(`${nginx.url}/topics/demo/evil`),
        tab.evaluate(() => document.querySelector("form").submit()),
      ]);
    }
  } finally {
    await tab.close();
    await new Promise((done) => other.close(done));
  }
  return answers;
}

for (const [name, lines, server] of [
  ["as it comes", "", ""],
  ["as it comes, before a board that nobody reads", "", "read = []"],
  ["with forwarding fields", FORWARDING, TRUSTED],
]) {
  test(`a page behind nginx ${name} signs in and publishes, and no stranger does`, () =>
    behind(lines, { server }, async ({ board, nginx, token }) => {
      await withPage(nginx.url, async (page) => {
        await page.locator("#sign, [data-state=live]").first().waitFor({ state: "attached" });
        const refused = await publish(page, "demo/x", "20");
        assert.equal(refused.status, 403, refused.said);
        assert.equal(await last(board, token, "demo/x"), undefined);

        await signIn(page, token);
        await page.locator("#who").getByText("Signed in as phone").waitFor();
        await live(page);
        for (const value of ["21.5", "22.5"]) {
          const published = await publish(page, "demo/x", value);
          assert.equal(published.status, 200, published.said);
          assert.equal(JSON.parse(published.said).subscribers, 1);
          await shown(page, "demo/x", value);
        }
        // No more than its token may.
        assert.equal((await publish(page, "other/x", "1")).status, 403);
        await shot(page, `nginx-${lines ? "fields" : "plain"}${server ? "-closed" : ""}`);
        if (!lines && !server) assert.deepEqual(await flaws(page), []);

        const answers = await evil(page, nginx, token);
        assert.ok(answers.length >= 6 && answers.every((status) => status >= 403), `${answers}`);
        assert.equal(await last(board, token, "demo/evil"), undefined);

        await page.getByRole("button", { name: "Sign out" }).click();
        await page.locator("#who").getByText("Signed in").waitFor({ state: "hidden" });
        assert.equal((await publish(page, "demo/x", "23")).status, 403);
        assert.equal(await last(board, token, "demo/x"), 22.5);
      });
      // Somebody who comes now finds no trace of who was signed in.
      await withPage(nginx.url, async (page) => {
        assert.equal((await publish(page, "demo/x", "24")).status, 403);
        assert.equal(await last(board, token, "demo/x"), 22.5);
      });
    }));
}

test("without `origins` the page is told the line to add", () =>
  behind("", { origins: false }, ({ nginx, token }) =>
    withPage(nginx.url, async (page) => {
      await live(page);
      await signIn(page, token);
      await page.locator("#sign").getByText(`origins = ["${nginx.url}"]`).waitFor();
      const refused = await publish(page, "demo/x", "1");
      assert.equal(refused.status, 403);
      assert.ok(refused.said.includes(`origins = ["${nginx.url}"]`), refused.said);
    })));

test("whoever guesses or takes all places behind nginx is in nobody else's way", () =>
  behind(FORWARDING, { server: TRUSTED, more: "[limits]\nper_address = 2\n" },
    async ({ nginx, token }) => {
      const guesses = [];
      for (let n = 0; n < 6; n += 1) {
        guesses.push((await nginx.ask(FAR, "GET", "/topics", `phone.guess${n}`)).status);
      }
      assert.deepEqual(guesses, [401, 401, 401, 401, 401, 429]);
      assert.equal((await nginx.ask(FAR, "GET", "/topics", token)).status, 429, "it waits");
      const taker = "198.51.100.8";
      const streams = [];
      for (let n = 0; n < 3; n += 1) streams.push(await nginx.stream(taker, token));
      assert.deepEqual(streams.map(({ status }) => status), [200, 200, 503]);
      try {
        await withPage(nginx.url, async (page) => {
          await signIn(page, token);
          await live(page);
          assert.equal((await publish(page, "demo/x", "7")).status, 200);
          await shown(page, "demo/x", "7");
        });
      } finally {
        streams.forEach((stream) => stream.close());
      }
    }));
