"""Prometheus' own parser reads /metrics: families described, counters named so, nothing twice."""

import json
import math
import unittest

from prometheus_client.parser import text_string_to_metric_families

import common

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(unittest.TestCase):
    def setUp(self):
        self.server = common.Server(common.QUIET)
        self.addCleanup(self.server.folder.cleanup)
        self.addCleanup(self.server.end)

    def families(self):
        """What is scraped now, by name, after checks that hold for every scrape."""
        status, fields, body = self.server.request("GET", "/metrics")
        self.assertEqual((status, fields["content-type"]), (200, CONTENT_TYPE))
        text = body.decode()
        self.assertTrue(text.endswith("\n"))
        families = list(text_string_to_metric_families(text))
        names = [family.name for family in families]
        twice = {name for name in names if names.count(name) > 1}
        self.assertFalse(twice, "X_total and X are one family to OpenMetrics")
        samples = [(s.name, tuple(sorted(s.labels.items()))) for f in families for s in f.samples]
        self.assertEqual(len(samples), len(set(samples)))
        self.assertEqual(len(samples), sum(not line.startswith("#") for line in text.splitlines()))
        for family in families:
            self.assertIn(family.type, ("counter", "gauge"), family.name)
            self.assertGreater(len(family.documentation), 10, family.name)
            self.assertTrue(family.name.startswith("encke_"), family.name)
            for sample in family.samples:
                is_total = sample.name.endswith("_total")
                self.assertEqual(is_total, family.type == "counter", sample.name)
                self.assertTrue(math.isfinite(sample.value) or family.name == "encke_topic_value")
        # The parser takes the suffix off a counter's name; in the text it must stand.
        for line in text.splitlines():
            if line.startswith("# TYPE") and line.endswith(" counter"):
                self.assertTrue(line.split()[2].endswith("_total"), line)
        return {family.name: family for family in families}

    def value(self, families, family, **labels):
        """The one sample with these labels, or None."""
        found = [s.value for s in families[family].samples if s.labels == labels]
        self.assertLessEqual(len(found), 1)
        return found[0] if found else None

    def test_empty_and_full(self):
        before = self.families()
        self.assertEqual(self.value(before, "encke_events"), 0)
        for at in range(0, 256, 64):
            names = [f"room-{n}/some_Topic-{n}/{n}" for n in range(at, at + 64)]
            events = [{"topic": name, "value": n / 8} for n, name in enumerate(names)]
            self.assertEqual(self.server.request("POST", "/topics", json.dumps(events))[0], 200)
        after = self.families()
        self.assertEqual(self.value(after, "encke_events"), 256)
        self.assertEqual(self.value(after, "encke_topics"), 256)
        self.assertEqual(len(after["encke_topic_value"].samples), 256)
        topic = "room-255/some_Topic-255/255"
        self.assertEqual(self.value(after, "encke_topic_value", topic=topic), 63 / 8)

    def test_values_that_are_no_numbers(self):
        values = {"yes": "true", "text": '"a \\" b\\\\ \\n c"', "none": "null", "list": "[1]",
                  "zero": "-0", "large": "123456789012345678901234567890", "exp": "1.5e-7"}
        for name, value in values.items():
            status, _, body = self.server.request("PUT", f"/topics/{name}", value)
            self.assertEqual(status, 200, body)
        families = self.families()
        shown = {s.labels["topic"]: s.value for s in families["encke_topic_value"].samples}
        self.assertEqual(shown.get("zero"), 0)
        self.assertEqual(float(shown["large"]), float(values["large"]))
        self.assertEqual(shown.get("exp"), 1.5e-7)
        self.assertFalse({"text", "none", "list"} & set(shown))
        up = {s.labels["topic"]: s.value for s in families["encke_topic_up"].samples}
        self.assertEqual(up, {name: 1 for name in values})

    def test_counters_count(self):
        before = self.families()
        self.server.request("PUT", "/topics/a", "1")
        self.server.request("GET", "/nothing")
        after = self.families()
        for name, more in [("encke_events", 1), ("encke_requests", 3), ("encke_requests_refused", 1)]:
            grown = self.value(after, name) - self.value(before, name)
            self.assertEqual(grown, more, name)

    def test_gone_is_no_sample(self):
        self.server.request("PUT", "/topics/a", "1")
        self.server.request("DELETE", "/topics/a")
        self.assertIsNone(self.value(self.families(), "encke_topic_value", topic="a"))


if __name__ == "__main__":
    common.main()
