// What a camera reads in a code that a terminal shows by half blocks.
import jsqr from "jsqr";

const MODULES = { " ": [0, 0], "\u2580": [1, 0], "\u2584": [0, 1], "\u2588": [1, 1] };
const SCALE = 4;

export function read(text) {
  const lines = [...text.matchAll(/\x1b\[30;47m([ \u2580\u2584\u2588]+)\x1b\[0m/g)];
  const rows = lines.flatMap(([, line]) => [0, 1].map((half) =>
    [...line].map((block) => MODULES[block][half])));
  const [width, height] = [rows[0].length * SCALE, rows.length * SCALE];
  const data = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i += 1) {
    const [x, y] = [i % width, Math.floor(i / width)].map((at) => Math.floor(at / SCALE));
    data.fill(rows[y][x] ? 0 : 255, i * 4, i * 4 + 3);
    data[i * 4 + 3] = 255;
  }
  return jsqr(data, width, height)?.data;
}
