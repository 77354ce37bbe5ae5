// Finds short names for the members that only the library uses, which compress best:
// node tests/browser/names.mjs [SECONDS]
//
// Its answer is src/dashboard/encke/names.json: by which name each member goes in encke.min.js. A
// new member is added there by hand, with any name that is free. This swaps two names, or takes a
// new one, as long as that makes the file no larger; it gained 146 of 6,173 bytes in 150 seconds.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FILE = `${ROOT}/src/dashboard/encke/names.json`;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const TAKEN = ["do", "if", "in", "is", "of", "on", "at", "id", "ws"];
const known = JSON.parse(readFileSync(FILE, "utf8"));
const members = Object.keys(known);

/** The library by scripts/bundle, each member by a sign of its own. */
const signed = Object.fromEntries(members.map((name, i) => [name, `PQ${String(i).padStart(3, 0)}`]));
const write = (names) => writeFileSync(FILE, `${JSON.stringify(names, null, 1)}\n`);
write(signed);
let parts;
try {
  parts = execFileSync(`${ROOT}/scripts/bundle`, ["--print"], { encoding: "utf8" }).split(/PQ(\d{3})/);
} finally {
  write(known);
}

const size = (names) => gzipSync(
  parts.map((part, i) => (i % 2 ? names[part] : part)).join(""), { level: 9 }).length;
const candidates = [...LETTERS, ...LETTERS.toUpperCase(), "_", "$"]
  .concat([...LETTERS].flatMap((a) => [..."aeistrnolch"].map((b) => a + b)))
  .filter((name) => !TAKEN.includes(name));
const pick = (list) => list[Math.floor(Math.random() * list.length)];
let names = members.map((name) => known[name]);
names = Object.fromEntries(names.map((name, i) => [signed[members[i]].slice(2), name]));
let least = size(names);
console.log(`${least} bytes before`);
const end = Date.now() + Number(process.argv[2] ?? 150) * 1000;
while (Date.now() < end) {
  const next = { ...names };
  const [a, b] = [pick(Object.keys(names)), pick(Object.keys(names))];
  if (Math.random() < 0.6) [next[a], next[b]] = [next[b], next[a]];
  else next[a] = pick(candidates.filter((name) => !Object.values(names).includes(name)));
  const bytes = size(next);
  if (bytes <= least) [names, least] = [next, bytes];
}
write(Object.fromEntries(members.map((name) => [name, names[signed[name].slice(2)]])));
console.log(`${least} bytes; now run scripts/bundle`);
