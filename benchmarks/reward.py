"""The reward of one RWML step, ours against sentence-transformers called on every (prediction, real) pair.

--groups sampled (the default): G answers that the model which ships with rwml samples at temperature 1 to the
transitions of its own play of generated scenes, as the quickstart's first steps do, before any training.
--groups made: answers made from real next states of random play of ALFWorld games (`alfworld-download`'s, below
$ALFWORLD_DATA or --games) by confusing things and numbers. `--duplicates`: the share of the answers that need no
embedding of their own, being equal to the truth or to an earlier answer of their group; the others are new to the whole
run, which no sampled ones are.
--groups FILE: sampled groups of your own, JSON lines `{"real": "...", "predicted": ["...", null, ...]}`.

Three ways, on the same texts, their distances compared:

    naive   `SentenceTransformer.encode` over all predictions and over the real text of each, batch size as by default
    cold    ours, nothing known beforehand
    ours    as in training: real next states embedded once for the whole data set (that time is shown on its own)

    OMP_WAIT_POLICY=passive python benchmarks/reward.py --out reward.json

The last line is `ratio: N`, naive over ours; `cold_ratio: N` stands before it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rwml.core.seeds import generator_for
from rwml.core.text import same_text
from rwml.models.embedding.embedder import Embedder
from rwml.models.embedding.minilm import installed_folder
from rwml.rewards.rewards import EmbeddingReward
from rwml.worlds.alfworld import load_game

Group = tuple[str, list[str | None]]
TAU_D = 0.2
UNPARSED_SHARE = 0.02
OTHER_STATE_SHARE = 0.3


def real_states(games: Path, count: int, rng: random.Random) -> list[str]:
    """Next states of `count` steps of random play, ten from each game."""
    files = sorted(games.rglob("game.tw-pddl"))
    if not files:
        sys.exit(f"no game.tw-pddl below '{games}': set ALFWORLD_DATA or give --games or --groups")
    states: list[str] = []
    while len(states) < count:
        game = load_game(rng.choice(files))
        game.reset()
        for _ in range(10):
            verbs: dict[str, list[str]] = {}
            for command in game.admissible_commands:
                verbs.setdefault(command.split()[0], []).append(command)
            verb = rng.choices(list(verbs), [8 if name in ("go", "open", "take") else 1 for name in verbs])[0]
            states.append(game.step(rng.choice(verbs[verb]))[0])
    return states[:count]


def wrong_answer(real: str, states: Sequence[str], rng: random.Random) -> str:
    """Another plausible next state: the true one, or that of some other step, with objects and numbers confused."""
    others = re.findall(r"an? [a-z]+ \d+", rng.choice(states)) or ["a mug 1"]
    if rng.random() < OTHER_STATE_SHARE:
        real = rng.choice(states)
    text = re.sub(r"an? [a-z]+ \d+", lambda m: rng.choice([m[0], rng.choice(others)]), real)
    return re.sub(r"\d+", lambda m: rng.choice([m[0], m[0], str(rng.randint(1, 6))]), text)


def make_group(
    real: str, states: Sequence[str], seen: set[str], size: int, duplicates: float, rng: random.Random
) -> Group:
    """A group whose answers repeat the truth or one another with probability `duplicates`, else are not in `seen`."""
    known: list[str] = [real]
    answers: list[str | None] = []
    for _ in range(size):
        if rng.random() < duplicates:
            answers.append(rng.choice(known))
        elif rng.random() < UNPARSED_SHARE:
            answers.append(None)
        else:
            text = wrong_answer(real, states, rng)
            while text in seen:
                text = wrong_answer(rng.choice(states), states, rng)
            seen.add(text)
            known.append(text)
            answers.append(text)
    return real, answers


def duplicate_share(groups: Sequence[Group]) -> float:
    """Share of the answers equal to the truth or to an earlier answer of their group, as measured."""
    free = total = 0
    for real, answers in groups:
        read = [answer for answer in answers if answer is not None]
        free += len(read) - len({answer for answer in read if not same_text(answer, real)})
        total += len(read)
    return free / total


def flatten(groups: Sequence[Group]) -> tuple[list[str | None], list[str]]:
    """Predictions and the real text of each, group after group."""
    return [a for _, answers in groups for a in answers], [real for real, answers in groups for _ in answers]


def naive_scorer() -> Callable[[Sequence[Group]], np.ndarray]:
    """Distances by sentence-transformers, both sides of every pair embedded."""
    from sentence_transformers import SentenceTransformer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = SentenceTransformer(str(installed_folder()), device=device, local_files_only=True)

    def score(groups: Sequence[Group]) -> np.ndarray:
        predicted, real = flatten(groups)
        out = np.full(len(real), 2.0, dtype=np.float32)
        rows = [row for row, answer in enumerate(predicted) if answer is not None]
        options = {"normalize_embeddings": True, "show_progress_bar": False}
        left = model.encode([predicted[row] for row in rows], **options)
        right = model.encode([real[row] for row in rows], **options)
        out[rows] = 1 - (left * right).sum(axis=1)
        return out

    return score


def measure(steps: Sequence[Sequence[Group]]) -> dict[str, Any]:
    """Wall and CPU seconds of each step under each way, and the largest difference of a distance."""
    naive = naive_scorer()
    naive(steps[0][:1])
    wall: dict[str, list[float]] = {"naive": [], "cold": [], "ours": []}
    cpu: dict[str, list[float]] = {name: [] for name in wall}
    worst, flips = 0.0, 0

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start, start_cpu = time.perf_counter(), time.process_time()
        result = work()
        wall[name].append(time.perf_counter() - start)
        cpu[name].append(time.process_time() - start_cpu)
        return result

    with tempfile.TemporaryDirectory() as folder:
        trained = Embedder(cache=Path(folder))
        trained.embed(["first call"])
        start = time.perf_counter()
        trained.embed([real for step in steps for real, _ in step])
        warm_s = time.perf_counter() - start
        for groups in steps:
            wanted = timed("naive", lambda: naive(groups))  # noqa: B023 (called at once)
            cold = Embedder()
            cold.embed(["first call"])
            for name, embedder in (("cold", cold), ("ours", trained)):
                reward = EmbeddingReward(embedder, TAU_D)
                found, rewards = timed(name, lambda: reward.score(*flatten(groups)))  # noqa: B023
                worst = max(worst, float(np.abs(found - wanted).max()))
                flips += int((rewards != (wanted < TAU_D)).sum())
        embedded = trained.stats.embedded
        trained.close()
    medians = {name: statistics.median(times) for name, times in wall.items()}
    cpu_medians = {name: statistics.median(times) for name, times in cpu.items()}
    return {
        "median_s": medians,
        "median_cpu_s": cpu_medians,
        "wall_s": wall,
        "cpu_s": cpu,
        "warm_s": warm_s,
        "warm_states": len({real for step in steps for real, _ in step}),
        "embedded": embedded,
        "max_difference": worst,
        "reward_flips": flips,
        "ratio": medians["naive"] / medians["ours"],
        "cold_ratio": medians["naive"] / medians["cold"],
        "cpu_ratio": cpu_medians["naive"] / cpu_medians["ours"],
        "cold_cpu_ratio": cpu_medians["naive"] / cpu_medians["cold"],
    }


def sampled_groups(count: int, size: int, seed: int) -> list[Group]:
    """Groups of the shipped model's answers to its own play, in the quickstart's scenes and shapes."""
    from rwml.models.language_model import load_language_model
    from rwml.models.sampling.local import local_sampler
    from rwml.models.sampling.sampler import SamplingParams
    from rwml.playing.rollout import LanguageModelPolicy, seats_for
    from rwml.world_models.language import LanguageWorldModel
    from rwml.worlds.by_name import get_world
    from rwml.worlds.transitions import transitions_of

    world = get_world("alfworld", source="scenes", size="tiny", num_train=64)
    lm, prompts = load_language_model("tiny", device="cpu"), world.prompts("brief")
    sampler = local_sampler(lm)
    policy = LanguageModelPolicy(lm, sampler, prompts, SamplingParams(32), max_steps=12, max_context=1024)
    played = policy.play(world, seats_for(world.tasks("train"), 1, seed), generator_for("reward", seed))
    rows = [row for one in played for row in transitions_of(one.episode, world, "train")][:count]
    if len(rows) < count:
        sys.exit(f"the model's play gave {len(rows)} transitions; ask for fewer --prompts or --steps")
    model = LanguageWorldModel(lm, sampler, prompts, SamplingParams(64), 10**9)
    answers = model.predict([row.query for row in rows], size, generator_for("answers", seed))
    return [(row.next_state, [a.next_state for a in group]) for row, group in zip(rows, answers, strict=True)]


def read_groups(path: Path) -> list[Group]:
    """Groups from JSON lines."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row["real"], row["predicted"]) for row in rows]


def main() -> None:
    """Build the groups, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=Path, default=Path(os.environ.get("ALFWORLD_DATA", ".")))
    parser.add_argument("--groups", default="sampled", help="sampled, made, or a file")
    parser.add_argument("--prompts", type=int, default=96, help="groups in one step")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--duplicates", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = random.Random(args.seed)
    if args.groups == "sampled":
        groups = sampled_groups(args.prompts * args.steps, args.group_size, args.seed)
    elif args.groups != "made":
        groups = read_groups(Path(args.groups))[: args.prompts * args.steps]
    else:
        states = real_states(args.games, args.prompts * args.steps, rng)
        seen = set(states)
        groups = [make_group(real, states, seen, args.group_size, args.duplicates, rng) for real in states]
    steps = [groups[i : i + args.prompts] for i in range(0, len(groups), args.prompts)]
    result = {
        "prompts": args.prompts,
        "group_size": len(groups[0][1]),
        "duplicate_share": duplicate_share(groups),
        "threads": args.threads,
        "source": args.groups,
    } | measure(steps)
    report(result, len(steps))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"cold_ratio: {result['cold_ratio']:.2f}")
    print(f"ratio: {result['ratio']:.2f}")


def report(result: dict[str, Any], steps: int) -> None:
    """Print the table."""
    print(
        f"{steps} steps of {result['prompts']} groups x {result['group_size']} answers, {result['threads']} thread(s); "
        f"groups {result['source']}; {result['duplicate_share']:.0%} of the answers are duplicates"
    )
    medians, cpu = result["median_s"], result["median_cpu_s"]
    print(f"{'':<26}{'wall s/step':>12}{'ratio':>8}{'CPU s/step':>12}{'ratio':>8}")
    for name, title in (("naive", "naive, every pair"), ("cold", "ours, cold"), ("ours", "ours, real states known")):
        ratios = medians["naive"] / medians[name], cpu["naive"] / cpu[name]
        print(f"{title:<26}{medians[name]:>12.3f}{ratios[0]:>8.2f}{cpu[name]:>12.3f}{ratios[1]:>8.2f}")
    print(f"real states, once: {result['warm_s']:.2f} s for {result['warm_states']} different ones")
    print(f"distances differ by at most {result['max_difference']:.1e}; rewards that differ: {result['reward_flips']}")


if __name__ == "__main__":
    main()
