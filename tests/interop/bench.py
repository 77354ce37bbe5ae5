"""scripts/bench: its flags, its arithmetic, README's block, and a short run of the real thing.

No time that it measures is judged here. The run needs the generator of ENCKE_SHARED (../shared).
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import common

sys.path.insert(0, str(common.ROOT / "tests/bench"))
import figures  # noqa: E402
import goals  # noqa: E402
import tables  # noqa: E402

SHARED = pathlib.Path(os.environ.get("ENCKE_SHARED", common.ROOT / "../shared"))


def bench(*words, limit_s=20, **environment):
    return subprocess.run(
        ["scripts/bench", *words], cwd=common.ROOT, env={**os.environ, **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s)


def record(row, cpu, round_number, **more):
    return {"section": "closed", "row": row, "n": 100, "round": round_number,
            "cpu_us_per_delivery": cpu, **more}


class Flags(unittest.TestCase):
    def test_help_and_what_is_unknown(self):
        self.assertEqual(bench("--help").returncode, 0)
        self.assertEqual(bench("--fast").returncode, 2)
        done = bench("--only", "closed", "--readme")
        self.assertEqual(done.returncode, 1)
        self.assertIn("leave --only away", done.stderr)

    @unittest.skipUnless((SHARED / "load").exists(), "the reference servers are not here")
    def test_every_row_that_is_on_is_measured(self):
        rows = [line.split("|") for line in
                (common.ROOT / "tests/bench/rows.tab").read_text().splitlines()
                if not line.startswith("#")]
        listed = bench("--list").stdout.splitlines()
        for row in rows:
            self.assertEqual(len(row), 7, row)
            self.assertEqual(f"closed {row[0]}" in listed, not row[6], row)

    def test_it_says_that_the_others_are_not_here(self):
        with tempfile.TemporaryDirectory() as empty:
            done = bench("--readme", ENCKE_SHARED=empty)
        self.assertEqual(done.returncode, 1)
        self.assertIn("are not here", done.stderr)


class Arithmetic(unittest.TestCase):
    def test_a_ratio_is_of_one_round(self):
        found = figures.Figures(
            [record("a", 4, 0), record("b", 2, 0), record("a", 9, 1), record("b", 3, 1),
             record("a", 99, 2)], True)
        self.assertEqual(found.ratios("closed", "a", "b", "cpu_us_per_delivery", 100), [2, 3])

    def test_a_median_stands_with_the_least_and_the_most(self):
        self.assertEqual(figures.spread([3.0, 1.0, 2.0], 1), "2.0 [1.0-3.0]")
        self.assertEqual(figures.spread([1234.0]), "1,234")
        self.assertEqual(figures.spread([]), "-")

    def test_the_median_decides_and_what_is_printed_counts(self):
        for values, met in [([0.9, 1.004, 9], True), ([0.9, 1.006, 9], False), ([], None)]:
            self.assertEqual(goals.Goal("x", 1.0, values).is_met(), met, values)
        self.assertFalse(goals.Goal("x", 0.9, [0.89], least=True).is_met())

    def test_what_arrived_wrongly_is_told(self):
        found = figures.Figures(
            [record("a", 1, 0, expected=10, delivered=9, dup=2), record("b", 1, 0, unknown=100)],
            True)
        self.assertEqual(found.untrue(), ["a, closed, 100 viewers: twice 2, lost 1 of 10"])

    def test_a_slope_is_between_few_and_many(self):
        found = figures.Figures(
            [{**record("a", 1, 0), "n": n, "anon_idle": size} for n, size in
             [(100, 5000), (100, 5200), (100, 5100), (1100, 45100)]], True)
        self.assertEqual(found.slope("closed", "a", "anon_idle"), [40])


class Readme(unittest.TestCase):
    def test_only_what_stands_between_the_marks_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "README.md"
            path.write_text(f"before\n{tables.OPEN}\nold\n{tables.CLOSE}\nafter\n")
            self.assertTrue(tables.into_readme(path, r"new \1"))
            self.assertEqual(path.read_text(),
                             f"before\n{tables.OPEN}\nnew \\1\n{tables.CLOSE}\nafter\n")
            path.write_text("no marks\n")
            self.assertFalse(tables.into_readme(path, "new"))
            self.assertEqual(path.read_text(), "no marks\n")

    def test_the_block_is_there_and_names_every_server(self):
        readme = (common.ROOT / "README.md").read_text()
        block = re.findall(re.escape(tables.OPEN) + "(.*?)" + re.escape(tables.CLOSE), readme, re.S)
        self.assertEqual(len(block), 1)
        for line in (common.ROOT / "tests/bench/rows.tab").read_text().splitlines():
            if not line.startswith("#"):
                self.assertIn(line.split("|")[1], block[0])


class Run(unittest.TestCase):
    @unittest.skipUnless((SHARED / "load").exists(), "the generator is not here")
    def test_a_short_run(self):
        done = bench("--as-is", "--quick", "--only", "^(closed|memory|calls) (encke|floor)-sse",
                     limit_s=240, ENCKE_BIN=common.BIN)
        self.assertEqual(done.returncode, 0, done.stderr)
        for text in ["Measured on:", "| Encke, SSE | 1,000 |", "sends per delivery at low load"]:
            self.assertIn(text, done.stdout)
        self.assertNotIn("Failed:", done.stdout)
        self.assertNotIn("Not as it should be:", done.stdout)
        home = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", common.ROOT / "target")) / "bench"
        kept = [json.loads(line) for line in (home / "figures.jsonl").read_text().splitlines()]
        frames = {line["row"]: line["wire_bytes_per_delivery"]
                  for line in kept[1:] if line["section"] == "closed" and line["n"] == 1000}
        self.assertAlmostEqual(frames["encke-sse"], frames["floor-sse"], delta=3)
        self.assertEqual(bench("--again").stdout, done.stdout)


if __name__ == "__main__":
    common.main()
