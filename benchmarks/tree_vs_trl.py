"""One RWML update beside TRL 1.16's `GRPOTrainer` and the tree rows of its asynchronous trainer, on the same texts.

    pip install 'rwml[bench]'
    OMP_WAIT_POLICY=passive python benchmarks/tree_vs_trl.py --episodes 1 --steps 20 --repeats 3 --out tree_vs_trl.json

What is compared, each side in a fresh process of its own, repeats in turn, medians:

    whole    one update on all transitions of whole ALFWorld episodes with their full history, G answers to each
    group    one update on single prompts of about 1,000 tokens (one group from each of two episodes), G answers to each
    step     a whole step: sampling, reward and update, by the model that ships with rwml (random weights write nothing
             that could be scored); every side samples its own answers

The update goes from token ids and rewards to moved weights: building trees or padded batches, forward and backward
pass, optimiser. Both sides train the same Qwen3 (random weights unless --tiny-weights; --hidden, --layers) by the same
loss (GRPO, mean over tokens, then over answers; clip 0.2; --kl) with the same advantages, in float32. Every group has
signal, so that rwml gains nothing by skipping groups that TRL computes. TRL runs without gradient checkpointing (on by
default, and slower) and at the fastest number of rows per pass (--micro), found on the single prompts first. Its
generation is bypassed through its `rollout_func` in "whole" and "group"; trl_peer.py says what little is replaced.

Before anything is timed, log-probabilities and gradients of all sides are compared: TRL's loss without and with a KL
term (weights moved off the reference), and the asynchronous trainer's (mean over all tokens, no KL term); the script
fails where they differ by more than 1e-4.

Times: with one thread, ratios are of CPU seconds, which other programs on the machine change least; on an idle machine
these are wall seconds. With more threads, ratios are of wall seconds. Peak memory is above what the process held before
its first update. The last lines are `group_ratio: N` and `ratio: N` (whole episodes), GRPOTrainer over rwml.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4
# Repeats of the short sides cost little next to one of GRPOTrainer's.
SHORT_REPEATS = 5
NAMES = {"rwml": "rwml", "grpo": "TRL GRPOTrainer", "async": "TRL async tree rows"}

Runs = dict[str, list[dict[str, Any]]]


def measure(options: Any, sides: Sequence[str], repeats: int) -> Runs:
    """Interleaved repeats of the sides, each in a process of its own."""
    from workers import Worker, interleaved

    workers = {}
    try:
        for side in sides:
            workers[side] = Worker(replace(options, side=side))
        short = max(repeats, SHORT_REPEATS)
        return interleaved(workers, {side: repeats if side == "grpo" else short for side in sides})
    finally:
        for worker in workers.values():
            worker.close()


def compare(options: Any, peer: str, folder: Path) -> dict[str, float]:
    """Largest differences between ours and a peer's, in one update; RuntimeError beyond the tolerance.

    gradient: of the tensors, |ours - theirs| / |theirs| (Euclidean norms). logp: absolute. loss: absolute.
    """
    from safetensors.torch import load_file

    from workers import Worker

    found, losses = {}, {}
    for side in ("rwml", peer):
        worker = Worker(replace(options, side=side))
        path = folder / f"{side}.safetensors"
        losses[side] = worker.ask(save=str(path))["loss"]
        worker.close()
        found[side] = load_file(path)
    ours, theirs = found["rwml"], found[peer]
    names = {name for name in ours if name.startswith("grad.")}
    if names != {name for name in theirs if name.startswith("grad.")}:
        raise RuntimeError(f"rwml and {NAMES[peer]} train different parameters")
    shared = [name for name in ours if name.startswith("logp.") and name in theirs]
    result = {
        "gradient": max(float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in names),
        "loss": abs(losses["rwml"] - losses[peer]),
        "loss_value": losses["rwml"],
    }
    if peer == "grpo":
        result["logp"] = max(float((ours[name] - theirs[name]).abs().max()) for name in shared)
    if any(value > TOLERANCE for name, value in result.items() if name != "loss_value"):
        raise RuntimeError(f"rwml and {NAMES[peer]} do not compute the same: {result}")
    return result


def fastest_micro(options: Any, candidates: Sequence[int]) -> tuple[int, dict[int, float]]:
    """The number of rows per pass at which GRPOTrainer is fastest on these prompts, and CPU seconds at each."""
    from workers import Worker

    seconds = {}
    for micro in candidates:
        worker = Worker(replace(options, side="grpo", micro=micro))
        worker.ask()
        seconds[micro] = float(worker.ask()[clock_of(options)])
        worker.close()
        print(f"  GRPOTrainer, {micro} rows per pass: {seconds[micro]:.1f} s", file=sys.stderr, flush=True)
    return min(seconds, key=seconds.__getitem__), seconds


def clock_of(options: Any) -> str:
    return "cpu_s" if options.threads == 1 else "wall_s"


def summary(runs: Runs, clock: str) -> dict[str, dict[str, float]]:
    """Medians and the largest peak of each side, and what it takes over rwml."""
    result = {}
    for side, many in runs.items():
        keys = [key for key in many[0] if key not in ("peak_mb", "loss")]
        result[side] = {key: statistics.median(run[key] for run in many) for key in keys}
        result[side]["peak_mb"] = max(run["peak_mb"] for run in many)
        result[side]["runs"] = len(many)
    for side in result:
        result[side]["ratio"] = result[side][clock] / result["rwml"][clock]
        result[side]["memory_ratio"] = result[side]["peak_mb"] / result["rwml"]["peak_mb"]
    return result


def print_table(title: str, found: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\n{title}")
    print(f"  {'':22}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}{'runs':>6}{'time ratio':>12}{'memory ratio':>14}")
    for side, row in found.items():
        print(
            f"  {NAMES[side]:22}{row['cpu_s']:9.2f}{row['wall_s']:9.2f}{row['peak_mb']:9.0f}{row['runs']:6.0f}"
            f"{row['ratio']:12.2f}{row['memory_ratio']:14.2f}"
        )


def print_step(found: Mapping[str, Mapping[str, float]]) -> None:
    for side, row in found.items():
        update = row.get("update_s", row["wall_s"] - row["sample_s"] - row["reward_s"])
        print(
            f"  {NAMES[side]:22}sampling {row['sample_s']:.2f} s, reward {row['reward_s']:.2f} s, "
            f"update {update:.2f} s (wall)"
        )


def make_works(args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of each part, and the sizes of what they work on."""
    from episodes import AnswerShape, describe, make_lm, single_prompts, whole_episodes
    from rwml.models.language_model import TINY_FOLDER, load_language_model
    from rwml.models.tiny import TinyShape
    from workers import Options

    shape = TinyShape(
        hidden=args.hidden,
        intermediate=args.hidden * 14 // 5,
        layers=args.layers,
        heads=max(1, args.hidden // 32),
        key_value_heads=max(1, args.hidden // 32),
    )
    random = (
        load_language_model("tiny", device="cpu") if args.tiny_weights else make_lm(folder / "model", shape, args.seed)
    )
    tiny = load_language_model("tiny", device="cpu")
    answers = AnswerShape(args.group, args.answer_tokens, args.prompts, args.seed)
    works = {
        "whole": (random, whole_episodes(random, args.episodes, args.steps, answers)),
        "group": (random, single_prompts(random, args.groups, args.prompt_tokens, answers)),
        # The shipped model has learnt to answer the brief wording.
        "step": (tiny, whole_episodes(tiny, args.episodes, args.steps, replace(answers, style="brief"))),
    }
    options, sizes = {}, {}
    for name, (lm, work) in works.items():
        path = folder / f"{name}.json"
        work.save(path)
        sizes[name] = describe(work, lm)
        ours = args.tiny_weights or name == "step"
        options[name] = Options(
            side="",
            work=str(path),
            model=str(TINY_FOLDER if ours else folder / "model"),
            mode="step" if name == "step" else "update",
            kl=args.kl,
            max_new_tokens=args.max_new_tokens,
            threads=args.threads,
        )
    sizes["parameters"] = sum(p.numel() for p in random.model.parameters())
    return options, sizes


def check_all(options: Mapping[str, Any], folder: Path) -> dict[str, dict[str, float]]:
    """Ours against the peers' on the single prompts, off the reference's weights."""
    group = replace(options["group"], noise=0.01, micro=8)
    found = {
        "GRPOTrainer, KL 0": compare(replace(group, kl=0.0), "grpo", folder),
        "GRPOTrainer, KL 0.1": compare(replace(group, kl=0.1), "grpo", folder),
        "async tree rows": compare(replace(group, kl=0.0, aggregation="token"), "async", folder),
    }
    for name, row in found.items():
        logp = f", log-probabilities {row['logp']:.1e}" if "logp" in row else ""
        print(
            f"  {name:22}largest differences: gradients {row['gradient']:.1e}{logp}, "
            f"loss {row['loss']:.1e} (of {row['loss_value']:.2e})",
            flush=True,
        )
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1, help="whole episodes in one update")
    parser.add_argument("--steps", type=int, default=20, help="transitions of an episode (T)")
    parser.add_argument("--group", type=int, default=8, help="answers to a prompt (G)")
    parser.add_argument("--groups", type=int, default=2, help="single prompts in one update")
    parser.add_argument("--prompt-tokens", type=int, default=1000, help="of the single prompts")
    parser.add_argument("--answer-tokens", type=int, default=48, help="at least, in whole and group")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="in step")
    parser.add_argument("--prompts", default="full", choices=("full", "brief"), help="wording, in whole and group")
    parser.add_argument("--hidden", type=int, default=160)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tiny-weights", action="store_true", help="the weights that ship with rwml, in all parts")
    parser.add_argument("--kl", type=float, default=0.0, help="weight of the KL term in the timed parts")
    parser.add_argument("--micro", type=int, nargs="+", default=[4, 8, 16], help="TRL's rows per pass to choose from")
    parser.add_argument("--checkpointing", action="store_true", help="TRL's default: slower, less memory")
    parser.add_argument("--repeats", type=int, default=3, help="of GRPOTrainer; the others have five at least")
    parser.add_argument("--step-repeats", type=int, default=1, help="whole steps; 0 leaves them out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures here (JSON)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options, sizes = make_works(args, folder)
        print(f"{sizes['parameters'] / 1e6:.1f} M parameters, {args.threads} thread(s), KL weight {args.kl}")
        for part in ("whole", "group", "step"):
            size = sizes[part]
            prompts, answers = ([round(n) for n in size[key]] for key in ("prompt_tokens", "answer_tokens"))
            sampled = f"answers of {answers[0]}-{answers[2]}, mean {answers[1]}"
            sampled = "sampled answers" if part == "step" else sampled
            print(
                f"  {part:6} {size['prompts']} prompts of {prompts[0]}-{prompts[2]} tokens, mean {prompts[1]}; "
                f"{size['group_size']} {sampled} ({size['source']})"
            )
        print("\nthe same on all sides (bar 1e-4)", flush=True)
        differences = check_all(options, folder)
        micro, probes = args.micro[0], {}
        if len(args.micro) > 1:
            micro, probes = fastest_micro(options["group"], args.micro)
        print(f"\nGRPOTrainer: {micro} rows per pass, gradient checkpointing {'on' if args.checkpointing else 'off'}")
        options = {k: replace(v, micro=micro, checkpointing=args.checkpointing) for k, v in options.items()}
        clock = clock_of(options["whole"])
        found = {
            part: summary(measure(options[part], ("rwml", "grpo", "async"), args.repeats), clock)
            for part in ("whole", "group")
        }
        print_table(f"whole: one update on {args.episodes} episode(s) of {args.steps} transitions", found["whole"])
        print_table(f"group: one update on {args.groups} single prompt(s)", found["group"])
        if args.step_repeats:
            found["step"] = summary(measure(options["step"], ("rwml", "grpo"), args.step_repeats), clock)
            print_table("step: sampling, reward and update (TRL: reward by sentence-transformers)", found["step"])
            print_step(found["step"])
    if args.out:
        settings = {key: value for key, value in vars(args).items() if key != "out"}
        figures = {"settings": settings, "sizes": sizes, "clock": clock, "micro": micro, "micro_s": probes}
        args.out.write_text(json.dumps({**figures, "differences": differences, "parts": found}, indent=2) + "\n")
    print(f"\nasync_ratio: {found['whole']['async']['ratio']:.2f}")
    print(f"memory_ratio: {found['whole']['grpo']['memory_ratio']:.2f}")
    print(f"medians of {'CPU' if clock == 'cpu_s' else 'wall'} seconds; async: fused CPU attention for its GPU kernel")
    print(f"group_ratio: {found['group']['grpo']['ratio']:.2f}")
    print(f"ratio: {found['whole']['grpo']['ratio']:.2f}")


if __name__ == "__main__":
    main()
