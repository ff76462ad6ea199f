"""Sampling G answers to many questions about a few episodes: ours, `generate`, and transformers' continuous batching.

The shapes are the quickstart's: each of `--episodes` histories is asked at `--questions` of its steps, so that prompts
grow from about 100 to 450 tokens and are prefixes of one another up to the question; `--group` answers of
`--new-tokens` tokens each. The model is the tiny Qwen3 with random weights and nothing stops an answer, so that all do
the same work: plain sampling at temperature 1. `generate` gets the prompts left-padded, with num_return_sequences.

    OMP_WAIT_POLICY=passive OMP_NUM_THREADS=2 python benchmarks/sampler.py --out sampler.json

Runs are interleaved, and medians compared. The last line is `ratio: N`, tokens per second of ours over `generate`, both
in the model's own precision (float32).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from rwml.models.sampling.local import LocalSampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.tiny import TinyShape, new_model

VOCAB = 1024


def make_prompts(episodes: int, questions: int, shortest: int, longest: int, rng: random.Random) -> list[list[int]]:
    """Histories that share an instruction of 60 tokens, each cut at `questions` steps and followed by a question."""

    def tokens(count: int) -> list[int]:
        return [rng.randrange(1, VOCAB) for _ in range(count)]

    instruction, prompts = tokens(60), []
    for _ in range(episodes):
        history = instruction + tokens(longest)
        for step in range(questions):
            question = tokens(rng.randint(15, 25))
            length = shortest + (longest - shortest) * step // max(questions - 1, 1) - len(question)
            prompts.append(history[:length] + question)
    return prompts


def ours(model: Any, prompts: Sequence[Sequence[int]], group: int, new: int, autocast: torch.dtype | None) -> int:
    """Our sampler; number of sampled tokens."""
    out = LocalSampler(model, [], autocast).sample(
        prompts, group, SamplingParams(new), torch.Generator().manual_seed(0)
    )
    return sum(len(completion.ids) for answers in out for completion in answers)


def by_generate(model: Any, prompts: Sequence[Sequence[int]], group: int, new: int) -> int:
    """`generate` on the left-padded batch; number of sampled tokens."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    out = model.generate(ids, attention_mask=mask, generation_config=settings(group, new))
    return int(out[:, width:].numel())


def by_continuous_batching(model: Any, prompts: Sequence[Sequence[int]], group: int, new: int) -> int:
    """Continuous batching with prefix sharing; number of sampled tokens."""
    rows = len(prompts) * group
    blocks = sum(-(-(len(p) + new) // 32) for p in prompts) * group + 64
    sizes = ContinuousBatchingConfig(
        block_size=32, num_blocks=blocks, max_batch_tokens=max(512, rows), max_requests_per_batch=rows
    )
    out = model.generate_batch(
        [list(p) for p in prompts for _ in range(group)],
        generation_config=settings(1, new),
        continuous_batching_config=sizes,
        warmup=False,
    )
    done = sum(len(result.generated_tokens) for result in out.values())
    if done != rows * new:
        raise RuntimeError(f"{done} tokens came back, not {rows * new}")
    return done


def settings(group: int, new: int) -> GenerationConfig:
    """Plain sampling of a fixed number of tokens."""
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=new,
        num_return_sequences=group,
        pad_token_id=0,
    )


def measure(ways: dict[str, tuple[Callable[[], int], int]]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Tokens per second of each way in each of its runs, in turn; and why a way could not run."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    failed: dict[str, str] = {}
    for run in range(max(count for _, count in ways.values())):
        for name, (way, count) in ways.items():
            if run >= count or name in failed:
                continue
            start = time.perf_counter()
            try:
                tokens = way()
            except Exception as error:  # a peer that cannot run here is a line in the table
                if name.startswith("rwml"):
                    raise
                failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                print(f"{name}: skipped ({failed[name]})", file=sys.stderr)
                continue
            rates[name].append(tokens / (time.perf_counter() - start))
    return rates, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--shortest", type=int, default=100, help="tokens of the shortest prompt")
    parser.add_argument("--longest", type=int, default=450, help="tokens of the longest prompt")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=28)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--continuous", type=int, default=1, help="runs of continuous batching (minutes each on a CPU)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures here (JSON)")
    args = parser.parse_args()

    model = new_model(TinyShape(), VOCAB, args.seed).to(args.device).eval()
    prompts = make_prompts(args.episodes, args.questions, args.shortest, args.longest, random.Random(args.seed))
    work = (model, prompts, args.group, args.new_tokens)
    with torch.no_grad():
        ours(model, prompts[:2], 4, 4, None)
        by_generate(model, prompts[:2], 4, 4)
        rates, failed = measure(
            {
                "rwml": (lambda: ours(*work, None), args.repeats),
                "rwml bfloat16": (lambda: ours(*work, torch.bfloat16), args.repeats),
                "generate": (lambda: by_generate(*work), args.repeats),
                "continuous batching": (lambda: by_continuous_batching(*work), args.continuous),
            }
        )
    medians = {name: statistics.median(runs) for name, runs in rates.items() if runs}
    rows = len(prompts) * args.group
    print(
        f"{rows} answers of {args.new_tokens} tokens, prompts {min(map(len, prompts))}-{max(map(len, prompts))}, "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {torch.get_num_threads()} threads\n"
    )
    print(f"{'way':22}{'tokens/s':>10}{'runs':>6}{'over generate':>15}")
    for name, rate in medians.items():
        print(f"{name:22}{rate:10.0f}{len(rates[name]):6}{rate / medians['generate']:15.2f}")
    for name, reason in failed.items():
        print(f"{name:22}   skipped: {reason}")
    ratio = medians["rwml"] / medians["generate"]
    if args.out:
        shapes = {key: value for key, value in vars(args).items() if key != "out"}
        figures = {"shapes": shapes, "threads": torch.get_num_threads(), "tokens_per_s": rates, "skipped": failed}
        args.out.write_text(json.dumps({**figures, "ratio": ratio}, indent=2) + "\n")
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
