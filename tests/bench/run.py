"""Runs the plan and prints the tables; scripts/bench starts it when everything is built."""

import argparse
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import machine
import plan
import rig as rigs
import tables
from figures import Figures

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where a run is kept, so that its tables can be printed again.
KEPT = "figures.jsonl"


def say(text):
    print(f"scripts/bench: {text}", file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=pathlib.Path, required=True)
    parser.add_argument("--load", type=pathlib.Path, required=True)
    parser.add_argument("--encke", type=pathlib.Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--only", default="")
    for flag in ("--quick", "--list", "--again", "--readme"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def count_calls(record):
    """From the share of each call, rounded to three places, to sends and calls per message."""
    parts = dict(part.rsplit(" ", 1) for part in record["syscalls"].split(", ") if part)
    # The publisher is answered with one more, which is none of the viewers'.
    sends = sum(float(parts.get(name, 0)) for name in ("sendto", "sendmsg", "write", "writev"))
    record["sends_per_delivery"] = max(0.0, sends - 1 / record["n"])
    record["other_calls_per_turn"] = (
        record["syscalls_per_delivery"] - record["sends_per_delivery"]) * record["n"]


def run_own(rig, words):
    """Our own generator's lines for one shape: name, value and unit with tabs between."""
    command = ["cargo", "bench", "--quiet", "--locked", "--bench", "load", "--", *words, "--tsv"]
    environment = {**os.environ, "ENCKE_BIN": str(rig.encke)}
    # A timer's thread that has the rank of ours would have to wait until ours has nothing to do.
    ranks = words[0] != "timer" and "--insn" not in words
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=600,
                          preexec_fn=rig.first if ranks else None)
    lines = re.findall(r"(?m)^([^\t\n]+)\t([-+.\deE]+)\t([^\t\n]*)$", done.stdout)
    if done.returncode != 0 or not lines:
        said = " / ".join((done.stderr or done.stdout).splitlines()[-3:])
        raise rigs.Trouble(f"cargo bench, {words[0]}: {said or 'it printed no figure'}")
    return [{"name": name, "value": float(value), "unit": unit} for name, value, unit in lines]


def run_job(rig, job):
    """The records of one job."""
    if job.section == "own":
        return run_own(rig, job.arguments)
    row = rig.rows[job.row]
    if job.section == "instructions":
        found = rig.instructions(row)
        return [] if found is None else [{"instructions_per_delivery": found}]
    record = rig.measure(row, job.arguments, job.more, timed=job.section != "calls")
    if job.section == "calls":
        if "syscalls" not in record or not record["syscalls"]:
            raise rigs.Trouble("strace counted nothing: it must be installed, and may need root")
        count_calls(record)
    return [record]


def measure(rig, jobs, kept):
    """Runs every job and returns the records; a job that fails is told and does not end the run."""
    records, began, done_s = [], time.monotonic(), 0.0
    all_s = sum(job.cost_s for job in jobs)
    for number, job in enumerate(jobs, 1):
        spent = time.monotonic() - began
        left = (all_s - done_s) * (spent / done_s if done_s > 20 else 1)
        what = f"{job.title}, {job.n:,} viewers, round {job.round + 1}" if job.n else job.title
        line = f"{number}/{len(jobs)} {what}; about {left / 60:.0f} min left"
        if sys.stderr.isatty():
            print(f"\033[K{line}", end="\r", file=sys.stderr, flush=True)
        elif number % 25 == 1:
            print(line, file=sys.stderr, flush=True)
        place = {"section": job.section, "row": job.row, "n": job.n, "round": job.round}
        start = time.monotonic()
        try:
            found = [{**record, **place} for record in run_job(rig, job)]
        except (rigs.Trouble, subprocess.TimeoutExpired) as trouble:
            say(trouble)
            found = [{**place, "failed": f"{job.title}, {job.n:,} viewers: {trouble}"}]
        for record in found:
            record["took_s"] = round(time.monotonic() - start, 2)
        records += found
        kept.writelines(json.dumps(record) + "\n" for record in found)
        kept.flush()
        done_s += job.cost_s
    return records


def fitting(rig, size, only):
    """The jobs that --only leaves, that this computer has descriptors for."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    jobs = plan.jobs(rig.rows, size)
    fit = [job for job in jobs if job.n + 100 <= most]
    if len(fit) < len(jobs):
        say(f"a process may open {most} files only, so no more than {most - 100} viewers are tried")
    if 'name = "load"' not in (ROOT / "Cargo.toml").read_text():
        fit = [job for job in fit if job.section != "own"]
    return [job for job in fit if re.search(only, job.title)]


def must_be_free(rig, jobs):
    taken = {port for job in jobs if job.row in rig.rows
             for port in rig.rows[job.row].ports if not rigs.is_free(port)}
    for port in sorted(taken):
        say(f"port {port} is taken; please end what listens there: ss -ltnp 'sport = :{port}'")
    if taken:
        sys.exit(1)


def fresh(rig, args, jobs):
    """Measures and keeps it; the first line kept says on what."""
    must_be_free(rig, jobs)
    if not rig.fifo:
        say("not root: other programs get in between, and timed figures swing; counts do not")
    busy = machine.busy()
    if busy > 0.1:
        say(f"other programs take {busy:.0%} of this computer: timed figures will swing")
    rig.level_frames({job.row for job in jobs})
    head = machine.describe(args.home, rig.fifo, args.target)
    head += " " + ("A quick run: few repetitions." if args.quick else "")
    with open(args.home / KEPT, "w") as kept:
        off = {row.name: row.off for row in rig.rows.values()}
        kept.write(json.dumps({"machine": head.strip(), "off": off, "whole": not args.only}) + "\n")
        measure(rig, jobs, kept)


def recall(rig):
    """What the last run kept; its rows are off as they were then."""
    try:
        lines = (rig.home / KEPT).read_text().splitlines()
    except FileNotFoundError:
        say("nothing was measured yet; leave --again away")
        sys.exit(1)
    head, *records = [json.loads(line) for line in lines]
    for row in rig.rows.values():
        row.off = head["off"].get(row.name, "it was not there yet")
    return head["machine"], Figures(records, head["whole"])


def main():
    args = arguments()
    for how in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(how, lambda *_: sys.exit(143))
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    rig = rigs.Rig(args.home.resolve(), args.load.resolve(), args.encke.resolve())
    if not args.again and not args.list:
        rig.leave_out_missing()
    jobs = fitting(rig, plan.QUICK if args.quick else plan.FULL, args.only)
    if args.list:
        print("\n".join(dict.fromkeys(job.title for job in jobs)))
        return
    if not args.again:
        if not jobs:
            say(f"nothing that is measured has a name like {args.only}; --list shows the names")
            sys.exit(2)
        began = time.monotonic()
        try:
            fresh(rig, args, jobs)
        finally:
            rig.stop()
        say(f"all of it took {(time.monotonic() - began) / 60:.1f} min")
    head, figures = recall(rig)
    print(tables.report(rig.rows, figures, head))
    if args.readme:
        text = tables.compact(rig.rows, figures, head)
        if not tables.into_readme(ROOT / "README.md", text):
            say(f"README.md needs the lines {tables.OPEN} and {tables.CLOSE}, once each")
            sys.exit(1)
        say("README.md has the new figures")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except rigs.Trouble as trouble:
        say(trouble)
        sys.exit(1)
