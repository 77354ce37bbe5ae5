// The last two minutes of a topic, as a line: a fixed number of bytes for each topic.
//
// It never draws what was not there: a pause is no slope.
import { link } from "./state.js";

export const SECONDS = 120; // a chart's memory: one value for each second

// A ring of one value for each second; a second without one is NaN.
export function remember(topic) {
  const second = Math.floor(topic.at / 1000);
  if (second <= topic.second - SECONDS) return;
  const from = Math.max(topic.second + 1, second - SECONDS + 1);
  for (let s = from; s < second; s += 1) topic.values[s % SECONDS] = NaN;
  topic.values[second % SECONDS] = Number(topic.value);
  topic.second = Math.max(topic.second, second);
}

export function paintChart(topic) {
  const end = Math.max(topic.second, Math.floor((link.open ? Date.now() : link.heard) / 1000));
  // A young one shows less, but fills its width.
  const span = Math.min(SECONDS, Math.max(30, end - link.begun));
  const start = end - span + 1;
  const points = [];
  for (let s = Math.max(0, topic.second - SECONDS + 1); s <= topic.second; s += 1) {
    const value = topic.values[s % SECONDS];
    if (Number.isNaN(value)) continue;
    if (s <= start) points.length = 0; // only the last one before the chart leads into it
    points.push([Math.max(s, start), value]);
  }
  if (points.length === 0) return;
  const values = points.map((point) => point[1]);
  const high = Math.max(...values);
  const least = Math.min(...values);
  const low = least >= 0 && least < 0.4 * high ? 0 : least;
  // Noise must not look like news: at least a fiftieth of the value fills the height.
  const height = Math.max(high - low, Math.abs(high) * 0.02, topic.unit === "%" ? 5 : 1e-9);
  const middle = low === 0 ? height / 2 : (low + high) / 2;
  const y = (value) => (16 - (24 * (value - middle)) / height).toFixed(1);
  const x = (second) => (115 - ((end - second) * 115) / (span - 1)).toFixed(1); // 5: the dot
  const isSwitch = typeof topic.value === "boolean";
  const left = x(points[0][0]);
  let trace = `M${left} ${y(points[0][1])}`;
  points.slice(1).forEach(([second, value], i) => {
    // A pause was no slope: the old value held until the new one came.
    if (isSwitch || second - points[i][0] > 3) trace += `H${x(second)}`;
    trace += `L${x(second)} ${y(value)}`;
  });
  const [last, value] = points.pop();
  const tip = x(topic.state === "ok" ? end : last);
  trace += `H${tip}`;
  const edge = topic.state === "ok" ? "H120" : "";
  [`${trace}${edge}V36H${left}Z`, trace, `M${tip} ${y(value)}h0`].forEach((d, i) =>
    topic.parts.paths[i].setAttribute("d", d));
}
