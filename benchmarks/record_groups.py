"""The groups that a world-model training samples, step after step, for `benchmarks/reward.py --groups FILE`.

    rwml run quickstart --until filter
    python benchmarks/record_groups.py runs/quickstart --out groups.jsonl

Trains as the run folder's recipe says, in a copy of it, and writes each group as it is scored: JSON lines
`{"real": ..., "predicted": [...]}`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rwml.core.files import read_json
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.run import Run
from rwml.core.types import Transition
from rwml.stages import train_wm


def main() -> None:
    """Train and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder whose filter is done")
    parser.add_argument("--out", type=Path, default=Path("groups.jsonl"))
    args = parser.parse_args()
    make_reward = train_wm.load_reward
    with tempfile.TemporaryDirectory() as folder, args.out.open("w", encoding="utf-8") as file:
        copy = Path(folder) / "run"
        shutil.copytree(args.run, copy, ignore=shutil.ignore_patterns("world_model", "policy", ".lock"))
        recipe = parse_recipe(read_json(copy / "recipe.json") | {"out": str(copy)})
        size = recipe.train_wm.group_size

        def recording(run: Run, tau_d: float) -> Any:
            reward = make_reward(run, tau_d)
            score = reward.score

            def keep(predicted: Sequence[str | None], rows: Sequence[Transition]) -> Any:
                for start in range(0, len(rows), size):
                    group = {"real": rows[start].next_state, "predicted": list(predicted[start : start + size])}
                    file.write(json.dumps(group) + "\n")
                return score(predicted, rows)

            reward.score = keep
            return reward

        train_wm.load_reward = recording
        train_wm.run(Run.open(recipe))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
