"""How time and memory of one update grow with episode length, group size and model width; how near the limit it is.

The update: forward and backward pass of one trajectory tree (`tree_backward`, GRPO loss), T steps of --step-tokens
tokens, at each step a question and G answers, all answers different; a Qwen3 of random weights, float32.

The limit: the multiplications that the update has to do (linear layers on every token of the tree, attention on every
pair that the tree lets see each other, the vocabulary only where a loss is; three times for forward and backward, no
recomputation counted), run as plain matrix products at the same shapes in the same process, right before each update.
The share is the time of those products over the time of the update; "of large" is the same against the rate of
1024 x 1024 x 1024 products, which no shape of a small model reaches.

    OMP_WAIT_POLICY=passive python benchmarks/scaling.py --out scaling.json

Every size runs in a fresh process; medians of CPU seconds with one thread (wall seconds with more), peak memory above
what the process held before its first update. Exponents: least squares on logarithms. The last line is `ratio: N`, the
share at T=20, G=8 and the tiny model's width.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workers import Meter

BASE = {"steps": 20, "group": 8, "hidden": 160}
SERIES = {"steps": (5, 10, 20, 40), "group": (2, 4, 8, 16), "hidden": (96, 160, 320, 640)}
NAMES = {"steps": "T, steps of the episode", "group": "G, answers to a question", "hidden": "width of the model"}
VOCAB, HEAD_DIM, LAYERS = 1024, 32, 4
OPENING, QUESTION = 200, 12
# Rows of one pass of the walk (`forward.BUDGET_TOKENS`), and of the branches that hang off one step.
ROWS = 1024


def make_tree(size: Mapping[str, int]) -> Any:
    """One episode: trunk, questions, and answers that share no token."""
    from rwml.trees.tree import TreeBuilder

    rng = np.random.default_rng(0)
    trunk = rng.integers(1, VOCAB, OPENING + size["steps"] * size["step_tokens"])
    builder = TreeBuilder()
    weight = 1.0 / (size["steps"] * size["group"] * size["answer_tokens"])
    for step in range(size["steps"]):
        at = OPENING + step * size["step_tokens"]
        question = rng.integers(1, VOCAB, QUESTION)
        starts = rng.choice(np.arange(1, VOCAB), size["group"], replace=False)
        for number, start in enumerate(starts):
            answer = np.concatenate([[start], rng.integers(1, VOCAB, size["answer_tokens"] - 1)])
            advantage = 1.0 if number % 2 else -1.0
            path = np.concatenate([trunk[:at], question, answer])
            builder.add(path, at + QUESTION, advantage=advantage, coefficient=weight)
    return builder.build()


def make_model(hidden: int) -> Any:
    from rwml.models.tiny import TinyShape, new_model

    heads = hidden // HEAD_DIM
    shape = TinyShape(VOCAB, hidden, hidden * 14 // 5, LAYERS, heads, heads, HEAD_DIM)
    return new_model(shape, VOCAB, 0)


def needed(tree: Any, hidden: int) -> dict[str, float]:
    """Multiply-adds times two that one forward and backward pass has to do, by kind."""
    losses = np.concatenate([[0], np.cumsum(tree.has_loss)])
    run = losses[tree.end] > losses[1:]  # a token goes through the model if a loss lies below it
    inner = hidden * 14 // 5
    return {
        "square": 3 * 2.0 * run.sum() * LAYERS * 4 * hidden * hidden,
        "inner": 3 * 2.0 * run.sum() * LAYERS * 3 * hidden * inner,
        "vocabulary": 3 * 2.0 * tree.has_loss.sum() * hidden * VOCAB,
        "attention": 3 * 4.0 * (tree.depth[run] + 1).sum() * LAYERS * hidden,
    }


def products(kind: str, hidden: int, keys: int) -> tuple[list[Callable[[], Any]], float]:
    """The matrix products of one kind at the shapes that the update uses, and the operations of one round of them."""
    import torch

    if kind == "attention":
        heads, rows = hidden // HEAD_DIM, 384
        query, key = torch.randn(heads, rows, HEAD_DIM), torch.randn(heads, keys, HEAD_DIM)
        weights = torch.randn(heads, rows, keys)
        calls = [
            lambda: query @ key.transpose(1, 2),
            lambda: weights @ key,
            lambda: weights.transpose(1, 2) @ query,
        ]
        return calls, 3 * 2.0 * heads * rows * keys * HEAD_DIM
    width = {"square": hidden, "inner": hidden * 14 // 5, "vocabulary": VOCAB}[kind]
    inputs, matrix, grads = torch.randn(ROWS, hidden), torch.randn(width, hidden), torch.randn(ROWS, width)
    calls = [lambda: inputs @ matrix.T, lambda: grads @ matrix, lambda: grads.T @ inputs]
    return calls, 3 * 2.0 * ROWS * hidden * width


def rate(calls: Sequence[Callable[[], Any]], operations: float, clock: str, meter: Meter) -> float:
    """Operations per second, over about 4e9 of them."""
    rounds = max(2, int(4e9 / operations))
    for call in calls:
        call()
    meter.start()
    for _ in range(rounds):
        for call in calls:
            call()
    return rounds * operations / meter.stop()[clock]


def run_one(size: dict[str, int]) -> dict[str, Any]:
    """One size, in this process."""
    import torch

    from rwml.trees.forward import tree_backward
    from rwml.trees.objectives import LossFields, token_losses

    torch.set_num_threads(size["threads"])
    clock = "cpu_s" if size["threads"] == 1 else "wall_s"
    tree, model = make_tree(size), make_model(size["hidden"])
    fields, work = LossFields.of(tree), needed(tree, size["hidden"])

    def update() -> None:
        tree_backward(model, tree, lambda logp, tokens: token_losses(logp, fields.take(tokens)))
        model.zero_grad()

    memory, meter = Meter(), Meter()
    memory.start()
    update()
    peak_mb = memory.stop()["peak_mb"]
    times, shares, rates, squares = [], [], [], []
    keys = int(tree.depth.mean())
    large = torch.randn(1024, 1024)
    for _ in range(size["repeats"]):
        squares.append(rate([lambda: large @ large], 2.0 * 1024**3, clock, meter))
        at_shapes = {kind: rate(*products(kind, size["hidden"], keys), clock, meter) for kind in work}
        meter.start()
        update()
        times.append(meter.stop()[clock])
        least = sum(work[kind] / at_shapes[kind] for kind in work)
        shares.append(least / times[-1])
        rates.append(sum(work.values()) / least)
    median = statistics.median
    return {
        **{key: size[key] for key in BASE},
        "tokens": tree.num_tokens,
        "tokens_unshared": tree.num_dense_tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": median(times),
        "peak_mb": peak_mb,
        "gflop": sum(work.values()) / 1e9,
        "attention_share": work["attention"] / sum(work.values()),
        "update_gflops": sum(work.values()) / median(times) / 1e9,
        "matmul_gflops": median(rates) / 1e9,
        "large_matmul_gflops": median(squares) / 1e9,
        "share": median(shares),
        "share_of_large": median(sum(work.values()) / t / s for t, s in zip(times, squares, strict=True)),
    }


def in_fresh_process(size: Mapping[str, int]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(size["threads"]), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(size)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of value ~ size ** exponent."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def print_series(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """One table, and the exponents under it."""
    print(f"\n{NAMES[name]}")
    print(
        f"{name:>8}{'tokens':>9}{'unshared':>10}{'seconds':>9}{'peak MB':>9}{'GFLOP':>9}{'GFLOP/s':>9}"
        f"{'matmul':>8}{'share':>7}{'of large':>10}"
    )
    for row in rows:
        print(
            f"{row[name]:8}{row['tokens']:9}{row['tokens_unshared']:10}{row['seconds']:9.2f}{row['peak_mb']:9.0f}"
            f"{row['gflop']:9.1f}{row['update_gflops']:9.1f}{row['matmul_gflops']:8.1f}{row['share']:7.0%}"
            f"{row['share_of_large']:10.0%}"
        )
    sizes = [row[name] for row in rows]
    found = {key: exponent(sizes, [row[key] for row in rows]) for key in ("seconds", "peak_mb", "tokens_unshared")}
    print(
        f"exponents: seconds {found['seconds']:.2f}, peak memory {found['peak_mb']:.2f}; tokens that separate "
        f"sequences would have {found['tokens_unshared']:.2f}"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-tokens", type=int, default=60)
    parser.add_argument("--answer-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the figures here (JSON)")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(json.loads(args.one))))
        return
    shared = {key: getattr(args, key) for key in ("step_tokens", "answer_tokens", "repeats", "threads")}
    base = in_fresh_process({**BASE, **shared})
    series, exponents = {}, {}
    for name, values in SERIES.items():
        series[name] = [
            base if value == BASE[name] else in_fresh_process({**BASE, **shared, name: value}) for value in values
        ]
        exponents[name] = print_series(name, series[name])
    print(
        f"\nat T={BASE['steps']}, G={BASE['group']}, width {BASE['hidden']}: {base['update_gflops']:.1f} GFLOP/s; "
        f"matrix products at these shapes {base['matmul_gflops']:.1f} (share {base['share']:.0%}), 1024 x 1024 x 1024 "
        f"{base['large_matmul_gflops']:.1f} (share {base['share_of_large']:.0%}); {args.threads} thread(s), "
        f"{'CPU' if args.threads == 1 else 'wall'} seconds"
    )
    if args.out:
        settings = {key: value for key, value in vars(args).items() if key not in ("out", "one")}
        figures = {"settings": settings, "series": series, "exponents": exponents}
        args.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"ratio: {base['share']:.2f}")


if __name__ == "__main__":
    main()
