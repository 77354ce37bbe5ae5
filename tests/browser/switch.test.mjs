// Switches, and the help for whoever is here for the first time, in a real browser against the real
// binary: ENCKE_BIN=path node --test
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import jsqr from "jsqr";
import { Board, flaws, launch, live, phone, saysInHeader, shot, tile } from "./harness.mjs";

const NAME = "board.test"; // of no address here but by this rule: nobody is local there
const SECRET = "q7Zk2vN0w4";

let browser;
let board;

before(async () => {
  browser = await launch([`--host-resolver-rules=MAP ${NAME} 127.0.0.1`]);
  const sha256 = createHash("sha256").update(SECRET).digest("hex");
  board = await Board.start(undefined, `[server]\nhosts = ["${NAME}"]\n[[token]]\nname = "hall"
sha256 = "${sha256}"\nread = ["#"]\nwrite = ["hall/#"]
[[topic]]\nmatch = "hall/door"\nlabel = "Front door"
[[source]]\nkind = "exec"\ncommand = ["echo", "true"]\ntopic = "hall/full"\n`);
});

after(async () => {
  await board?.kill();
  await browser?.close();
});

/** A fresh page of the board; afterwards nothing may have gone wrong inside it but refusals. */
async function withPage(url, act) {
  const page = await phone(browser);
  try {
    await page.goto(url);
    await live(page);
    await act(page);
    assert.deepEqual(page.faults.filter((fault) => !/status of 503/.test(fault)), []);
  } finally {
    await page.context().close();
  }
}

const byName = () => `http://${NAME}:${board.port}/`;
const knob = (page, topic) => tile(page, topic).getByRole("switch");
const isOn = (page, topic) => knob(page, topic).getAttribute("aria-checked");
const says = (page, topic, word) =>
  tile(page, topic).locator(".note b").getByText(word, { exact: true }).waitFor();
const heard = (page, words) => page.locator("#say").getByText(words, { exact: true }).waitFor();
const value = async (topic) =>
  (await (await fetch(`${board.url}/topics/${topic}`)).json()).value;

test("a switch is pending until the board tells of it, and then confirmed", async () => {
  await board.publish("hall/lamp", false);
  await withPage(board.url, async (page) => {
    let go;
    const isAsked = new Promise((asked) =>
      page.route("**/topics/hall/lamp", (route) => {
        go = () => route.continue();
        asked();
      }));
    await knob(page, "hall/lamp").click();
    await isAsked;
    await says(page, "hall/lamp", "pending");
    assert.equal(await isOn(page, "hall/lamp"), "true", "it stands where it was put");
    assert.equal(await tile(page, "hall/lamp").locator(".number").innerText(), "Off");
    await knob(page, "hall/lamp").click(); // nothing: one thing after another
    await heard(page, "Lamp: pending");
    await shot(page, "switch-pending");
    await go();
    await says(page, "hall/lamp", "confirmed");
    assert.equal(await tile(page, "hall/lamp").locator(".number").innerText(), "On");
    assert.equal(await value("hall/lamp"), true);
    await heard(page, "Lamp: confirmed");
    await shot(page, "switch-confirmed");
    assert.deepEqual(await flaws(page), []);

    // Somebody else's hand moves it, too.
    await board.publish("hall/lamp", false);
    await page.waitForFunction(() =>
      document.querySelector('[title="hall/lamp"] [role=switch]').ariaChecked === "false");
  });
});

test("one that fails goes back, and says why", async () => {
  await board.publish("hall/fan", true);
  await withPage(board.url, async (page) => {
    await page.route("**/topics/hall/fan", (route) => route.fulfill({ status: 503,
      contentType: "text/plain; charset=utf-8", body: "all buffers are taken" }));
    await knob(page, "hall/fan").click();
    await says(page, "hall/fan", "failed");
    await saysInHeader(page, /Fan was not switched: all buffers are taken/);
    assert.equal(await isOn(page, "hall/fan"), "true");
    assert.equal(await value("hall/fan"), true);
    await shot(page, "switch-failed");
    await page.unroute("**/topics/hall/fan");
    await knob(page, "hall/fan").click();
    await says(page, "hall/fan", "confirmed");
    assert.equal(await value("hall/fan"), false);
  });
});

test("there are switches for what may be written alone", async () => {
  for (const topic of ["hall/door", "attic/door"]) await board.publish(topic, true);
  await board.publish("hall/count", 1);
  await withPage(byName(), async (page) => {
    await tile(page, "hall/door").waitFor();
    assert.equal(await page.getByRole("switch").count(), 0, "nobody signed in");
  });
  await withPage(`${byName()}#token=hall.${SECRET}`, async (page) => {
    await knob(page, "hall/door").waitFor();
    // What a sensor measures is the sensor's.
    await tile(page, "hall/full").waitFor();
    for (const topic of ["attic/door", "hall/count", "hall/full"]) {
      assert.equal(await knob(page, topic).isVisible(), false, topic);
    }
    await knob(page, "hall/door").click();
    await says(page, "hall/door", "confirmed");
    assert.equal(await value("hall/door"), false);
  });
});

/** What a camera reads in the code that the page shows. */
const read = async (page) => {
  const { data, side } = await page.evaluate(async () => {
    const [picture, canvas] = [document.getElementById("qr"), document.createElement("canvas")];
    await picture.decode();
    const size = canvas.width = canvas.height = 264;
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0, size, size);
    return { data: [...context.getImageData(0, 0, size, size).data], side: size };
  });
  return jsqr(Uint8ClampedArray.from(data), side, side)?.data;
};

test("who comes first is shown around, once", () =>
  withPage(byName(), async (page) => {
    const code = page.getByAltText("QR code of this address");
    await code.waitFor();
    assert.equal(await read(page), byName());
    assert.ok((await page.locator("#curl").innerText()).startsWith(`curl -N ${byName()}events/`));
    assert.deepEqual(await flaws(page), []);
    await page.locator("summary").scrollIntoViewIfNeeded();
    await shot(page, "help");
    await page.locator("summary").click();
    await page.reload();
    await live(page);
    await tile(page, "hall/count").waitFor();
    assert.equal(await code.isVisible(), false);
    await page.locator("summary").click();
    await code.waitFor();
  }));

test("an address of this computer alone has no code", () =>
  withPage(board.url, async (page) => {
    await page.locator("#curl").waitFor();
    assert.equal(await page.locator("#code").isVisible(), false);
    assert.equal(await page.locator("#only").isVisible(), true, "it says why");
  }));

test("a code holds as much as a phone can read, and says what is wrong", async () => {
  const ask = (query, how) => fetch(`${board.url}/qr.svg${query}`, how);
  const most = await ask(`?text=${"a".repeat(134)}`);
  assert.equal(most.status, 200);
  assert.equal(most.headers.get("Content-Type"), "image/svg+xml");
  assert.match(await most.text(), /^<svg .* viewBox="0 0 49 49">.*<\/svg>$/);
  for (const query of ["", "?text=", "?text=%zz", "?text=%ff", `?text=${"a".repeat(135)}`]) {
    const answer = await ask(query);
    assert.equal(answer.status, 400, query);
    assert.match(await answer.text(), /needs a text of 1 to 134 bytes/);
  }
  assert.equal((await ask("?text=a", { method: "POST" })).status, 405);
});
