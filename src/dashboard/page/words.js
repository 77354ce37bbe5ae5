// What a person reads of names, numbers and times.
//
// It never knows where they come from, nor where they go.
import { capital } from "./dom.js";

const TITLES = new Map(Object.entries({ net: "Network", wifi: "Wi-Fi", mem: "Memory",
  hwmon: "Hardware", os: "System", w1: "1-Wire", "": "Other" }));
export const sentence = (word) => {
  const spaced = word.replace(/[_-]+/g, " ").trim() || word;
  return capital(spaced);
};
// Chips and the common short words are capitals: BME280, CPU.
export const title = (segment) => TITLES.get(segment) ||
  (/\d{3}|\d[a-z]\d|^([cg]pu|gpio|iio|i2c|usb|ups|adc|gps|led|pwm)$/.test(segment)
    ? segment.toUpperCase() : sentence(segment));

export const plural = (count, word) => `${fixed(count, 0)} ${word}${count === 1 ? "" : "s"}`;
const SPANS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [size, unit] = SPANS.find((span) => seconds >= span[0]) || SPANS[3];
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

function duration(seconds) {
  const i = SPANS.findIndex((span) => seconds >= span[0]);
  const [[size, unit], [small, rest]] = SPANS.slice(i, i + 2);
  const more = Math.floor((seconds % size) / small);
  return `${Math.floor(seconds / size)} ${unit}${more ? ` ${more} ${rest}` : ""}`;
}

// Units that grow a prefix: bytes by 1024, all else by 1000.
const GROWING = /^(Ki|Mi|Gi|k|M|G)?(B|B\/s|bit\/s|Hz|W|Wh)$/;
const FACTORS = { k: 1e3, M: 1e6, G: 1e9, Ki: 1024, Mi: 1048576, Gi: 1073741824 };

// As Intl would write it, which a slow phone needs a twentieth of a second to make ready.
function fixed(value, places) {
  const [whole, part] = value.toFixed(places).replace("-", "−").split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part ? `.${part}` : "");
}

const room = (size) => (size < 10 ? 3 : size < 100 ? 2 : size < 1e4 ? 1 : 0);

// [number, unit] as a person would write them.
function numeral(topic, value) {
  const size = Math.abs(value);
  const [, prefix, base] = GROWING.exec(topic.unit) || [];
  if (topic.unit === "s" && value >= 120) return [duration(value), ""];
  if (base) {
    const [step, prefixes] = base === "B" ? [1024, ["", "Ki", "Mi", "Gi", "Ti"]]
      : [1000, ["", "k", "M", "G", "T"]];
    const whole = size * (FACTORS[prefix] || 1);
    let power = 0;
    while (whole >= 0.9995 * step ** (power + 1) && power < 4) power += 1;
    const scaled = whole / step ** power;
    const places = scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
    if (power > 0) return [fixed(Math.sign(value) * scaled, places), prefixes[power] + base];
  }
  const short = size >= 1e9 || (size > 0 && size < 1e-3);
  if (short) return [value.toExponential(2).replace("+", ""), topic.unit];
  // A topic keeps the decimals it once had, so that 47.2, 47 and 47.3 do not dance.
  const point = /\.(\d+)$/.exec(String(value));
  topic.decimals = Math.max(topic.decimals, point ? point[1].length : 0);
  return [fixed(value, Math.min(topic.decimals, room(size))), topic.unit];
}

export function shown(topic) {
  const { value } = topic;
  if (typeof value === "number") return numeral(topic, value);
  if (value === null || value === undefined) return ["—", ""];
  if (typeof value === "boolean") return [value ? "On" : "Off", ""];
  const plain = typeof value === "string" ? value : JSON.stringify(value);
  return [plain.length > 240 ? plain.slice(0, 240) + "…" : plain || "(empty)", topic.unit];
}

// Words for a value at or beyond its limits: the kernel's names, the worst first.
const LIMITS = [["lcrit", -1, "critical", "beyond"], ["crit", 1, "critical", "beyond"],
  ["min", -1, "low", "over"], ["max", 1, "high", "over"]];
export const verdict = ({ limits, value }) => typeof value === "number" && LIMITS.find(([name, side]) =>
  typeof limits[name] === "number" && (value - limits[name]) * side >= 0);

// What a topic is called: its label, behind whatever of its name tells it from its siblings.
export function called({ name, label }) {
  const segments = name.split("/");
  const own = label && label !== name ? label : sentence(segments[segments.length - 1]);
  const between = segments.slice(1, -1).join(" ").replace(/_/g, " ");
  const isSaid = own.toLowerCase().includes(between.toLowerCase());
  return isSaid ? own : `${between} · ${own}`;
}
