"""Recipes and overrides changed at random, by a seed: each is read, or refused by an RwmlError of three parts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import load_recipe

VALUES = (
    "nan", "inf", "-inf", "1e400", "-0.0", "0", "-1", "true", '""', '"all"', "[]", "{}", "[[]]", "0x" + "f" * 5000,
    "9" * 5000, "9" * 30, "1" + "0" * 400 + ".0", "[" * 40 + "]" * 40, "[" * 5000 + "]" * 5000,
    "{a=" * 40 + "1" + "}" * 40,
    "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"\\u0000"', '"\\u001b[31m"', "'a\\b'", '"{x}"', '"{0}"', '"{"',
    "[{}]", "[1, 'a', nan]", '{tool = "rouge"}', '{tool = nan}', "{a.b.c = inf}", '"' + "x" * 70000 + '"', "'''\n'''",
)  # fmt: skip
"""Values as TOML: of every type, and such as no setting has."""

KEYS = ("", "a..b", "train_wm", "train_wm.reward", "train_wm.reward.tool", "world.options.x", "compare.arms", "\x1b[2J",
        "seed", "name", "é", "x" * 9000, ".".join("a" * 3000), "train_wm.spin_rounds",
        "train_policy.max_steps")  # fmt: skip

SIGNS = '\0\t\x1b"=[{\u2028\U0001f600'


def mutated(random_: random.Random, text: str) -> str:
    """A recipe with a few changes: lines lost, doubled or moved, values exchanged, signs lost, put in or replaced."""
    for _ in range(random_.randint(1, 4)):
        lines = text.split("\n")
        at = random_.randrange(len(lines))
        kind = random_.randrange(7)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(random_.randrange(len(lines)), lines[at])
        elif kind in (2, 3) and "=" in lines[at]:
            lines[at] = lines[at].split("=")[0] + "= " + random_.choice(VALUES)
        elif kind == 4:
            lines.insert(at, f"{random_.choice(KEYS)} = {random_.choice(VALUES)}")
        elif kind == 5:
            lines[at] = f"[{random_.choice(KEYS)}]"
        else:
            cut, sign = random_.randrange(len(lines[at]) + 1), random_.choice(SIGNS)
            lines[at] = lines[at][:cut] + sign + lines[at][cut:]
        text = "\n".join(lines) or "\n"
    return text


def recipe_faults(texts: list[str], number: int, folder: Path, seed: int = 0, limit_s: float = 5.0) -> list[str]:
    """What went wrong in `number` recipes and overrides made of `texts`: exceptions that are no RwmlError of three
    parts, and readings that took more than `limit_s`; the input's number is named."""
    random_, faults, path = random.Random(seed), list[str](), folder / "mutated.toml"
    for count in range(number):
        text, overrides = random_.choice(texts), list[str]()
        if random_.random() < 0.7:
            text = mutated(random_, text)
        while random_.random() < 0.4:
            key = random_.choice([*KEYS, *(line.split("=")[0].strip() for line in text.split("\n") if "=" in line)])
            overrides.append(f"{key}={random_.choice(VALUES)}")
        data = text.encode("utf-8", "surrogatepass")
        if random_.random() < 0.05:
            data = data[: len(data) // 2] + bytes([random_.choice((0x80, 0xFF, 0xC0))]) + data[len(data) // 2 :]
        path.write_bytes(data)
        faults += [f"{count}: {fault}" for fault in faults_of(partial(load_recipe, path, tuple(overrides)), limit_s)]
    return faults


def faults_of(call: Callable[[], object], limit_s: float = 5.0) -> list[str]:
    """Why a call on hostile input was not well answered: it raised what is no RwmlError of three parts, or was slow."""
    begun, faults = time.monotonic(), list[str]()
    try:
        call()
    except RwmlError as error:
        faults += [] if all((error.what, error.why, error.fix)) else [f"a message without its parts: {error.what}"]
    except Exception as error:
        faults.append(f"{type(error).__name__}: {str(error)[:200]}")
    seconds = time.monotonic() - begun
    return faults + [f"{seconds:.1f} s"] * (seconds > limit_s)
