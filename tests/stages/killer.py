"""Runs a recipe again and again in processes that kill themselves (SIGKILL) at given moments.

Usage: killer.py RECIPE KILLS. KILLS is JSON: [part, n] ends a process just before the n-th time that it touches a file
of that part of the run folder. Prints JSON: the exit status of each process (the last one is not killed), and how
often each part was touched by the first one that was not killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

# Imported once: every process below is a fork, and nothing has been computed before it.
import sentence_transformers  # noqa: F401
import torch  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

from rwml.core.config import Recipe, load_recipe
from rwml.core.manifest import Run
from rwml.stages import VERBS  # noqa: F401
from rwml.stages import collect, evaluate, report, train_policy, train_wm, transitions  # noqa: F401
from rwml.stages import filter as _  # noqa: F401
from rwml.stages.run import run_all

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def watch(folder: Path, part: str, number: int) -> Counter[str]:
    """Count what is touched in the run folder by its part (first name, without the dot of unfinished writes)."""
    touched: Counter[str] = Counter()
    root = f"{folder}/"

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in EVENTS or not isinstance(arguments[0], (str, Path)):
            return
        path = str(arguments[0])
        if path.startswith(root):
            name = path[len(root) :].split("/")[0].removeprefix(".").split(".")[0]
            touched[name] += 1
            if name == part and touched[name] == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return touched


def attempt(recipe: Recipe, part: str, number: int, notes: int) -> None:
    touched = watch(recipe.folder, part, number)
    run_all(Run.open(recipe))
    os.write(notes, json.dumps(touched).encode())


def main() -> None:
    recipe = load_recipe(sys.argv[1])
    statuses = []
    said = b""
    for part, number in [*json.loads(sys.argv[2]), ["", 0]]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            attempt(recipe, part, number, writer)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read() or said
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps({"statuses": statuses, "touched": json.loads(said or b"{}")}))


if __name__ == "__main__":
    main()
