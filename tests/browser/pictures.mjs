// Makes the README's pictures, in tests/browser/pictures:
// ENCKE_BIN=path node tests/browser/pictures.mjs
//
// The real page in a real browser, against the real binary on the files of a Raspberry Pi
// (tests/fixtures/sys), which this moves. It takes two minutes: charts have to be lived through.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { deflateSync } from "node:zlib";
import { Board, Link, launch, live, phone, saysInHeader, sleep, tile } from "./harness.mjs";
import { chunk } from "./png.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PICTURES = path.join(HERE, "pictures");
const FIXTURES = path.join(HERE, "..", "fixtures", "sys");
const NAME = "greenhouse.local"; // of no address here but by the browser's own rule
const CHART_S = 45;
const STEP_MS = 500;
const PHONE = { deviceScaleFactor: 2 };
const DESKTOP = { viewport: { width: 1280, height: 800 }, deviceScaleFactor: 1 };
const DARK = { colorScheme: "dark" };
const SCREENS = { phone: PHONE, "phone-dark": { ...PHONE, ...DARK }, desktop: DESKTOP,
  "desktop-dark": { ...DESKTOP, ...DARK } };
const SECRET = "q7Zk2vN0w4"; // of a board that is gone in two minutes

const root = mkdtempSync(path.join(tmpdir(), "encke-pictures-"));
const SOIL = `while cat ${root}/soil 2>/dev/null || [ -d ${root} ]; do sleep 2; done`;
const CONFIG = `
[server]
hosts = ["${NAME}"]
[[token]]
name = "gardener"
sha256 = "${createHash("sha256").update(SECRET).digest("hex")}"
read = ["#"]
write = ["greenhouse/#"]
[[source]]
kind = "exec"
command = ["/bin/sh", "-c", "${SOIL}"]
stream = true
stale = 6
topic = "greenhouse/soil"
label = "Soil moisture"
unit = "%"
[[topic]]
match = "iio/bme280/temperature"
rename = "greenhouse/temperature"
label = "Temperature"
[[topic]]
match = "iio/bme280/humidity"
rename = "greenhouse/humidity"
label = "Humidity"
[[topic]]
match = "iio/bme280/pressure"
rename = "greenhouse/pressure"
label = "Air pressure"
[[topic]]
match = "greenhouse/lamp"
label = "Lamp"
`;

for (const fixture of ["proc-basic", "board-pi-4"]) {
  cpSync(path.join(FIXTURES, fixture), root, { recursive: true });
}
const BME280 = "sys/devices/platform/soc/3f804000.i2c/i2c-1/1-0076/iio:device0";
cpSync(path.join(FIXTURES, "iio-pi", BME280), path.join(root, "sys/bus/iio/devices/iio:device0"),
  { recursive: true });
mkdirSync(path.join(root, "proc/net"), { recursive: true });
/** Over what is there, which is as long: the board keeps files open, and finds none empty. */
function write(file, text) {
  const to = path.join(root, file);
  writeFileSync(to, text, { flag: began && existsSync(to) ? "r+" : "w" });
}

/** A figure that goes up and down around `middle` by `size`, the same in each run. */
const wave = (s, middle, size, period) => middle
  + size * (0.85 * Math.sin((2 * Math.PI * s) / period) + 0.15 * Math.sin(s / 0.9));
let isOut = false; // the sensor
let began = 0;
const sums = { busy: 61900, idle: 1480377, received: 4294960000, sent: 812004417 };

/** What the board reads `s` seconds after the start. */
function move(s) {
  const load = Math.max(4, wave(s, 22, 19, 31));
  sums.busy += load * 2;
  sums.idle += (100 - load) * 2;
  sums.received += Math.max(800, wave(s, 84e3, 70e3, 23));
  sums.sent += Math.max(400, wave(s, 21e3, 17e3, 17));
  write("proc/stat", `cpu ${Math.round(sums.busy)} 0 0 ${Math.round(sums.idle)} 0 0 0 0 0 0\n`);
  write("proc/loadavg", `${wave(s, 0.62, 0.2, 40).toFixed(2)} 0.48 0.41 1/142 1042\n`);
  write("proc/uptime", `${1_123_784 + Math.round(s)}.00 4100000.00\n`);
  write("proc/meminfo", `MemTotal: 3884140 kB\nMemFree: 1204412 kB\nMemAvailable: ${
    Math.round(wave(s, 2_610_000, 60_000, 50))} kB\n`);
  write("proc/net/dev", `a\nb\n wlan0: ${Math.round(sums.received)} 1 0 0 0 0 0 0 ${
    Math.round(sums.sent)} 1 0 0 0 0 0 0\n`);
  write("proc/net/wireless", `a\nb\n wlan0: 0000 ${Math.round(wave(s, 58, 4, 19))}. ${
    Math.round(wave(s, -52, 4, 19))}. -256 0 0 0 4 62 0\n`);
  write("sys/class/thermal/thermal_zone0/temp", `${Math.round(wave(s, 48.6, 1.9, 36) * 1000)}\n`);
  const sensor = "sys/bus/iio/devices/iio:device0";
  if (isOut) return;
  write("soil", `${wave(s, 43, 1.5, 52).toFixed(1)}\n`);
  write(`${sensor}/in_temp_input`, `${Math.round(wave(s, 24.7, 0.4, 60) * 1000)}\n`);
  write(`${sensor}/in_humidityrelative_input`, `${Math.round(wave(s, 61, 2.2, 44) * 1000)}\n`);
  write(`${sensor}/in_pressure_input`, `${wave(s, 101.32, 0.02, 70).toFixed(4)}\n`);
}

move(0);
began = Date.now();
const seconds = () => (Date.now() - began) / 1000;
const board = await Board.start(undefined, CONFIG, ["--sys-root", root]);
const browser = await launch([`--host-resolver-rules=MAP ${NAME} 127.0.0.1`]);
const link = await Link.to(board);
const mover = setInterval(() => move(seconds()), STEP_MS);
const publish = () => board.publish("greenhouse/lamp", Math.floor(seconds() / 13) % 2 === 0);
let publisher = setInterval(() => publish().catch(() => {}), 2000);

mkdirSync(PICTURES, { recursive: true });
const shots = new Map(); // by name; made small when all are taken, for that stops everything else
async function shoot(pages, state) {
  for (const [screen, page] of pages) shots.set(`${screen}-${state}`, await page.screenshot());
}

/** The same picture with at most 256 colours: those that are seen most, the rest by the nearest. */
async function small(page, png) {
  const blank = await page.context().newPage();
  const { width, height, colours } = await blank.evaluate(async (url) => {
    const bitmap = await createImageBitmap(await (await fetch(url)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    canvas.drawImage(bitmap, 0, 0);
    const { data, width, height } = canvas.getImageData(0, 0, bitmap.width, bitmap.height);
    const colours = [];
    for (let i = 0; i < data.length; i += 4) {
      colours.push((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    }
    return { width, height, colours };
  }, `data:image/png;base64,${png.toString("base64")}`);
  await blank.close();
  const counts = new Map();
  for (const colour of colours) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([colour]) => colour);
  const parts = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const known = palette.map(parts);
  const nearest = new Map(palette.map((colour, i) => [colour, i]));
  for (const colour of counts.keys()) {
    if (nearest.has(colour)) continue;
    const [red, green, blue] = parts(colour);
    const distances = known.map(([r, g, b]) => (red - r) ** 2 + (green - g) ** 2 + (blue - b) ** 2);
    nearest.set(colour, distances.indexOf(Math.min(...distances)));
  }
  const rows = Buffer.alloc((width + 1) * height); // each begins with 0: no filter
  colours.forEach((colour, i) => {
    rows[Math.floor(i / width) * (width + 1) + 1 + (i % width)] = nearest.get(colour);
  });
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8); // eight bits, of a palette
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", header),
    chunk("PLTE", Buffer.from(palette.flatMap(parts))),
    chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND", Buffer.alloc(0))]);
}

async function open(screen) {
  const page = await phone(browser, SCREENS[screen]);
  await page.goto(`http://${NAME}:${new URL(link.url).port}/#token=gardener.${SECRET}`);
  await live(page);
  return [screen, page];
}

try {
  await publish();
  const pages = await Promise.all(Object.keys(SCREENS).map(open));
  const each = (act) => Promise.all(pages.map(([, page]) => act(page)));
  await sleep(CHART_S * 1000);
  await shoot(pages, "live");

  // A sensor that is pulled out, and one that says nothing more.
  const sensor = path.join(root, "sys/bus/iio/devices/iio:device0");
  isOut = true;
  rmSync(path.join(sensor, "in_temp_input"));
  rmSync(path.join(sensor, "in_humidityrelative_input"));
  rmSync(path.join(root, "soil"));
  await each(async (page) => {
    await tile(page, "greenhouse/temperature").getByText("error").waitFor({ timeout: 40_000 });
    await tile(page, "greenhouse/soil").getByText("stale").waitFor({ timeout: 40_000 });
  });
  await sleep(3000);
  await each((page) => page.evaluate(() => {
    document.getElementById("group-greenhouse").scrollIntoView();
    scrollBy(0, -110); // out from under the header
  }));
  await sleep(500); // charts that come near the screen are drawn then
  await shoot(pages, "stale");
  await each((page) => page.evaluate(() => scrollTo(0, 0)));
  isOut = false;

  // More was missed than the board keeps.
  link.cut();
  await each((page) => saysInHeader(page, /Disconnected/));
  clearInterval(publisher);
  const events = Array.from({ length: 25_000 }, (_, i) =>
    ({ topic: "greenhouse/lamp", value: i % 2 === 0 }));
  await board.publishMany(events);
  link.mend();
  await each((page) => saysInHeader(page, /Missed/, 20_000));
  publisher = setInterval(() => publish().catch(() => {}), 2000);
  await each(live);
  await sleep(2000);
  await shoot(pages, "lost");

  await board.kill();
  await each((page) => saysInHeader(page, /Disconnected/));
  await sleep(17_000); // until the values are old
  await shoot(pages, "offline");
  const [[, blank]] = pages;
  for (const [name, png] of shots) {
    writeFileSync(path.join(PICTURES, `${name}.png`), await small(blank, png));
  }
} finally {
  clearInterval(mover);
  clearInterval(publisher);
  link.close();
  await browser.close();
  await board.drain();
  rmSync(root, { recursive: true });
}
process.exit();
