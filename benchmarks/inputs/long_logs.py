"""Long logs through `rwml import` and every stage up to the filter: peak memory, disk and time of each.

A log is that of an agent that works in a shell: a call in each step, and a response of random words. Every verb runs
in a process of its own; its peak is the resident set that the kernel reports when it ends. The model is the tiny one,
which reads the first exchanges of a log; the filter drops the other rows with their reason. The last line is
`peak: N MB`, the largest of all.

    python benchmarks/inputs/long_logs.py --logs 60 --steps 120
    python benchmarks/inputs/long_logs.py --logs 200 --steps 300 --limit-mb 2000 --out runs/benchmarks/long_logs.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = """\
name = "long"
out = "{out}"
[world]
name = "chat"
[model]
path = "tiny"
prompts = "brief"
[collect]
episodes = "{logs}"
[transitions]
valid_fraction = 0.0
[filter]
predictor_epochs = 1
[train_wm]
reward = "rouge"
"""
WORDS = "you see a the on in of and desk drawer shelf mug lamp open closed nothing cabinet bed table sink".split()
RWML = "from rwml.cli import app; app()"


def write_logs(path: Path, logs: int, steps: int, size: int) -> None:
    """One log a line: a task, then calls with their responses."""
    draw = random.Random(0)
    # Words drawn one by one would take longer than the import.
    words = " ".join(draw.choices(WORDS, k=200_000))
    with path.open("w") as handle:
        for log in range(logs):
            messages: list[dict[str, Any]] = [{"role": "user", "content": f"Mend test {log}."}]
            for step in range(steps):
                arguments = json.dumps({"cmd": f"sed -n {step}p f{log}.py"})
                call = {"id": f"c{step}", "function": {"name": "bash", "arguments": arguments}}
                start = draw.randrange(len(words) - size)
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
                messages.append({"role": "tool", "tool_call_id": f"c{step}", "content": words[start : start + size]})
            handle.write(json.dumps({"messages": messages, "success": True}) + "\n")


def measured(*arguments: str) -> dict[str, float]:
    """Peak memory and time of one command in a process of its own; SystemExit if it fails."""
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", RWML, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"rwml {' '.join(arguments)} ended with {child.returncode}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"peak_mb": usage.ru_maxrss / 1024, "wall_s": time.monotonic() - started, "cpu_s": cpu_s}


def disk_mb(path: Path) -> float:
    """Size of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def run(work: Path, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Figures of the import and of each stage."""
    logs, imported, folder = work / "logs.jsonl", work / "imported", work / "run"
    write_logs(logs, args.logs, args.steps, args.size)
    print(f"{args.logs} logs x {args.steps} steps x {args.size} bytes: {disk_mb(logs):,.0f} MB of logs")
    print(f"{'verb':12} {'peak MB':>8} {'disk MB':>8} {'CPU s':>7} {'wall s':>7}")
    figures = {}
    recipe = work / "long.toml"
    recipe.write_text(RECIPE.format(out=folder, logs=imported / "episodes"))
    outcomes = {"import": imported, "collect": folder / "episodes"}
    outcomes |= {"transitions": folder / "transitions.parquet", "filter": folder / "filtered.parquet"}
    for verb, outcome in outcomes.items():
        command = ["import", str(logs), "--out", str(imported)] if verb == "import" else ["run", str(recipe)]
        command += [] if verb == "import" else ["--until", verb]
        figures[verb] = measured(*command) | {"disk_mb": disk_mb(outcome)}
        print("{:12} {peak_mb:8,.0f} {disk_mb:8,.0f} {cpu_s:7.1f} {wall_s:7.1f}".format(verb, **figures[verb]))
    counts = json.loads((folder / "manifest.json").read_text())["stages"]["filter"]["counts"]
    print(", ".join(f"{number:,} {name}" for name, number in counts.items()))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=6000, help="bytes of a response")
    parser.add_argument("--limit-mb", type=float, default=0.0, help="exit with 1 if a peak is larger")
    parser.add_argument("--out", type=Path, help="write the figures here (JSON)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.out.parent if args.out else None) as work:
        figures = run(Path(work), args)
    if args.out:
        settings = {"logs": args.logs, "steps": args.steps, "size": args.size}
        args.out.write_text(json.dumps({"settings": settings, "verbs": figures}, indent=2) + "\n")
    peak = max(each["peak_mb"] for each in figures.values())
    print(f"peak: {peak:,.0f} MB")
    raise SystemExit(int(0 < args.limit_mb < peak))


if __name__ == "__main__":
    main()
