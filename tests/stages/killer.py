"""Runs a recipe undisturbed, and a second one in processes that kill themselves (SIGKILL) at given moments.

Usage: killer.py UNDISTURBED DISTURBED KILLS [STAGE ...]. KILLS is JSON: [part, share] ends a process just before it
writes to that part of the run folder (a name, or the beginning of one) once more, after this share of the undisturbed
run's writes. Without a stage, all of them run.
Prints JSON: the kills as [part, number of the write], and the exit status of each process (the last is not killed).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

# Imported once: every process below is a fork, and nothing has been computed before it.
import sentence_transformers  # noqa: F401
import torch  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

from rwml.core.recipe.recipe import Recipe, load_recipe
from rwml.core.run import Run
from rwml.measure import examiner as examine
from rwml.stages import VERBS, train_policy
from rwml.stages import filter as filter_stage
from rwml.stages.pipeline import run_all, run_stage

for verb in VERBS:
    import_module(verb.module)
# So that these stages, too, are cut off between parts that are done and parts that are not.
filter_stage.QUESTIONS_IN_FLIGHT = 8
examine.PREDICTIONS_IN_FLIGHT = 4
train_policy.TASKS_PER_PART = 2

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def watch(folder: Path, part: str, number: int) -> Counter[str]:
    """Count writes in the run folder by part (first name, without the dot of unfinished ones); end at the number-th."""
    written: Counter[str] = Counter()
    root = f"{folder}/"

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        # Opened with no mode: a folder, to flush it.
        if event not in WRITES and not (event == "open" and arguments[1] in ("w", "a", "x", "wb", "ab", "x+b", None)):
            return
        path = str(arguments[0])
        if path.startswith(root):
            name = path[len(root) :].split("/")[0].removeprefix(".").split(".")[0]
            written[name] += 1
            if name == part and written[name] == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return written


def play(run: Run, stages: list[str]) -> None:
    """Run some stages, or all."""
    if not stages:
        run_all(run)
    for stage in stages:
        run_stage(run, next(verb for verb in VERBS if verb.stage == stage))


def attempt(recipe: Recipe, part: str = "", number: int = 0) -> tuple[int, dict[str, int]]:
    """Run in a process of its own; its exit status, and how often it wrote to each part if it was not killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        written = watch(recipe.folder, part, number)
        play(Run.open(recipe), sys.argv[4:])
        os.write(writer, json.dumps(written).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(said or b"{}")


def main() -> None:
    undisturbed, disturbed = load_recipe(sys.argv[1]), load_recipe(sys.argv[2])
    status, written = attempt(undisturbed)
    statuses, kills = [status], []
    for part, share in json.loads(sys.argv[3]):
        kills.append((part, 1 + int(share * written[part])))
        statuses.append(attempt(disturbed, *kills[-1])[0])
    statuses.append(attempt(disturbed)[0])
    print(json.dumps({"kills": kills, "statuses": statuses}))


if __name__ == "__main__":
    main()
