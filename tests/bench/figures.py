"""What was measured, and how it is said: medians with least and most, ratios round by round."""

import statistics


class Figures:
    """Records of runs: each has `section`, `row`, `n`, `round`, and what the generator counted.

    `whole`: nothing was left out by --only.
    """

    def __init__(self, records, whole):
        self.records, self.whole = records, whole

    def of(self, section, row, n=None):
        return [record for record in self.records
                if record["section"] == section and record["row"] == row
                and n in (None, record["n"]) and "failed" not in record]

    def values(self, section, row, key, n=None):
        return [record[key] for record in self.of(section, row, n) if key in record]

    def ratios(self, section, row, other, key, n=None):
        """Of each round in which both ran: the row's figure by the other's."""
        below = {(record["n"], record["round"]): record[key]
                 for record in self.of(section, other, n)}
        return [record[key] / below[record["n"], record["round"]]
                for record in self.of(section, row, n)
                if below.get((record["n"], record["round"]))]

    def viewers(self):
        """Every number of viewers of the closed loop, rising."""
        return sorted({record["n"] for record in self.records if record["section"] == "closed"})

    def slope(self, section, row, key):
        """Per viewer, between the least and the most viewers that were measured; a list of one."""
        counts = sorted({record["n"] for record in self.of(section, row)})
        if len(counts) < 2:
            return []
        low, high = (statistics.median(self.values(section, row, key, n))
                     for n in (counts[0], counts[-1]))
        return [(high - low) / (counts[-1] - counts[0])]

    def failures(self):
        return [record["failed"] for record in self.records if "failed" in record]

    def untrue(self):
        """What arrived twice, wrong, late in order or not at all: a sentence for each such run."""
        found = []
        for record in self.records:
            # A greeting of each connection is no event of ours: as many unknown ones are right.
            wrong = {"twice": "dup", "changed": "corrupt", "out of order": "out_of_order",
                     "not published": "publish_err", "dropped": "dropped"}
            counts = [f"{word} {record[key]}" for word, key in wrong.items() if record.get(key)]
            lost = record.get("expected", 0) - record.get("delivered", 0)
            if lost:
                counts.append(f"lost {lost} of {record['expected']}")
            if record.get("resumed", record["n"]) != record["n"]:
                counts.append(f"only {record['resumed']} of {record['n']} connected")
            if counts:
                found.append(f"{record['row']}, {record['section']}, {record['n']} viewers: "
                             + ", ".join(counts))
        return found


def number(value, digits=0):
    return f"{value:,.{digits}f}"


def spread(values, digits=0, by=1.0, unit=""):
    """`median [least-most]`, or `-` for none."""
    if not values:
        return "-"
    values = [value * by for value in values]
    text = number(statistics.median(values), digits) + unit
    if len(values) > 1:
        text += f" [{number(min(values), digits)}-{number(max(values), digits)}]"
    return text


def middle(values, digits=0, by=1.0):
    """The median alone, or `-`."""
    return number(statistics.median(values) * by, digits) if values else "-"


def table(head, lines):
    """A markdown table; the first column is text, the others are numbers."""
    rows = [head, ["---"] + ["--:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
