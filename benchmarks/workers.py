"""One fresh process for each side of a comparison: it builds its trainer, then makes one update at every request.

The processes wait while another one works, so repeats of all sides can be interleaved. Peak memory is the resident set
above what the process held just before its first update (`ru_maxrss`, whose mark is lowered first where the kernel lets
a process do that).

    python benchmarks/workers.py OPTIONS        OPTIONS: JSON, see `Options`; commands and replies are JSON lines
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

SIDES = ("rwml", "grpo", "async")


@dataclass(frozen=True, slots=True)
class Options:
    """What one process does. mode "update": on the given answers; "step": sampling and reward as well.

    micro: rows that TRL puts through the model at once. noise: what the weights differ by from the reference's.
    """

    side: str
    work: str
    model: str
    mode: str = "update"
    kl: float = 0.0
    noise: float = 0.0
    micro: int = 8
    checkpointing: bool = False
    max_new_tokens: int = 64
    tau_d: float = 0.2
    aggregation: str = "sequence"
    threads: int = 1


class Channel:
    """Commands in, replies out; whatever else the process prints goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def wait(self) -> dict[str, Any]:
        """The next command; ends the process when the other side has closed the pipe."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        command: dict[str, Any] = json.loads(line)
        return command

    def reply(self, answer: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(answer) + "\n")
        self._out.flush()


class Meter:
    """Wall and CPU seconds (of all threads) of one update, and the process's peak memory above its start, in MB."""

    def __init__(self) -> None:
        self._baseline_kb = 0
        self._start = self._start_cpu = 0.0

    def start(self) -> None:
        if not self._baseline_kb:
            self._baseline_kb = _lower_mark()
        self._start, self._start_cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._start, time.process_time() - self._start_cpu
        peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"wall_s": wall, "cpu_s": cpu, "peak_mb": (peak_kb - self._baseline_kb) / 1024}


def _lower_mark() -> int:
    """Set the high-water mark to what is resident now, where that can be done, and return the mark in kB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Worker:
    """The process that runs one side, seen from outside."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        # Threads that spin while they wait take the cores from the ones that work.
        settings = {
            "OMP_NUM_THREADS": str(options.threads),
            "OMP_WAIT_POLICY": "passive",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(asdict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **settings},
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """One update (`save`: the path for its gradients and log-probabilities); its figures."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"the side '{self.options.side}' ended:\n{self._log.read()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


def interleaved(workers: Mapping[str, Worker], repeats: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """The figures of each side's repeats, taken in turn."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for number in range(max(repeats.values())):
        for name, worker in workers.items():
            if number < repeats[name]:
                runs[name].append(worker.ask())
                print(f"  {name}: {runs[name][-1]['wall_s']:.1f} s", file=sys.stderr, flush=True)
    return runs


def key_of(ids: Sequence[int]) -> str:
    """The name under which the log-probabilities of one prompt with its answer are saved."""
    return "logp." + hashlib.sha1(json.dumps([int(i) for i in ids]).encode()).hexdigest()


def perturb(model: Any, noise: float) -> None:
    """Move the weights away from the reference's, the same way on every side."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            weight.add_(noise * torch.randn(weight.shape, generator=generator))


def save_gradients(model: Any, logprobs: Mapping[str, Any], path: str) -> None:
    """Gradients by parameter name, and log-probabilities by `key_of`."""
    from safetensors.torch import save_file

    tensors = {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    save_file({**tensors, **{key: value.clone() for key, value in logprobs.items()}}, path)


class RwmlSide:
    """Our update: trees from transitions and answers, backward pass, optimiser; in mode "step" the whole step."""

    def __init__(self, options: Options, folder: Path) -> None:
        import torch

        from episodes import Work
        from rwml.core.recipe.sections import TrainWmConfig
        from rwml.core.records import MetricsLog
        from rwml.models.language_model import load_language_model
        from rwml.train.trainer import PolicyLoss, Trainer, TrainingLog
        from rwml.worlds.by_name import get_world

        torch.set_num_threads(options.threads)
        self.options, self.work = options, Work.load(Path(options.work))
        self.lm = load_language_model(options.model, device="cpu")
        self.prompts = get_world("alfworld").prompts(self.work.style)
        # The weights must not move, so that every repeat does the same; nor may gradients be cut before they are read.
        self.config = TrainWmConfig(
            kl_weight=options.kl,
            learning_rate=1e-30,
            max_grad_norm=1e9,
            group_size=self.work.group_size,
            max_new_tokens=options.max_new_tokens,
            aggregation=options.aggregation,  # type: ignore[arg-type]
        )
        log = TrainingLog(folder, MetricsLog(folder / "metrics.jsonl"), "bench", 0)
        self.trainer = Trainer(self.lm, self.config, log, PolicyLoss.of(self.config))
        perturb(self.lm.model, options.noise)
        self.trees: list[Any] = []
        self.path = ""
        self.trainer.optimizer.register_step_pre_hook(lambda *_: self._save())
        self.step = self._prepare_step() if options.mode == "step" else None
        self.number = 0

    def update(self, path: str) -> dict[str, Any]:
        """One update; `path`: where to save gradients, "" for nowhere."""
        from rwml.train.batches import answer_trees

        self.path = path
        if self.step is not None:
            return self.step()
        work = self.work
        scored = answer_trees(self.lm, self.prompts, work.transitions, work.answers, work.rewards_PG, self.config)
        self.trees = scored.trees
        figures = self.trainer._update(scored.trees, 0)
        return {"loss": figures["loss"], "tokens": figures["tokens"], "tokens_unshared": figures["tokens_unshared"]}

    def _prepare_step(self) -> Callable[[], dict[str, Any]]:
        from rwml.core.seeds import generator_for
        from rwml.models.embedding.embedder import Embedder
        from rwml.models.sampling.local import local_sampler
        from rwml.models.sampling.sampler import SamplingParams
        from rwml.rewards.rewards import EmbeddingReward
        from rwml.train.batches import answer_trees
        from rwml.world_models.language import LanguageWorldModel

        sampler = local_sampler(self.lm)
        params = SamplingParams(max_new_tokens=self.options.max_new_tokens)
        model = LanguageWorldModel(self.lm, sampler, self.prompts, params, 10**9)
        queries = [row.query for row in self.work.transitions]
        Embedder().embed(["first call"])

        def step() -> dict[str, Any]:
            rows, group = self.work.transitions, self.config.group_size
            self.number += 1
            times = [time.perf_counter()]
            generator = generator_for("bench", self.number)
            answers = model.predict(queries, group, generator)
            times.append(time.perf_counter())
            # A new embedder each time: nothing that an earlier repeat embedded is known.
            reward = EmbeddingReward(Embedder(), self.options.tau_d)
            real = [row.next_state for row in rows for _ in range(group)]
            _, rewards = reward.score([a.next_state for one in answers for a in one], real)
            times.append(time.perf_counter())
            scored = answer_trees(self.lm, self.prompts, rows, answers, rewards.reshape(len(rows), group), self.config)
            self.trainer._update(scored.trees, 0)
            times.append(time.perf_counter())
            names = ("sample_s", "reward_s", "update_s")
            parts = dict(zip(names, (stop - start for start, stop in pairwise(times)), strict=True))
            lengths = [len(a.ids) for one in answers for a in one]
            return {**parts, "signal_share": scored.signal_share, "answer_tokens": sum(lengths) / len(lengths)}

        return step

    def _save(self) -> None:
        if not self.path:
            return
        from rwml.trees.forward import tree_logprobs

        logprobs = {}
        questions = self.work.questions(self.lm)
        child: dict[tuple[int, int], int] = {}
        for tree in self.trees:
            logp_N = tree_logprobs(self.lm.model, tree)
            child = {(int(p), int(i)): n for n, (p, i) in enumerate(zip(tree.parent, tree.ids, strict=True))}
            for question, group in zip(questions, self.work.answers, strict=True):
                for answer in group:
                    path, at = [], -1
                    for token in [*question, *answer.ids]:
                        at = child.get((at, token), len(child))
                        path.append(at)
                    if path[-1] < len(child):
                        logprobs[key_of([*question, *answer.ids])] = logp_N[path[len(question) :]]
        save_gradients(self.lm.model, logprobs, self.path)


def main() -> None:
    """Serve one side."""
    channel = Channel()
    options = Options(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        if options.side != "rwml":
            import trl_peer

            trl_peer.serve(options, Path(folder), channel, Meter())
            return
        side, meter = RwmlSide(options, Path(folder)), Meter()
        while True:
            command = channel.wait()
            meter.start()
            figures = side.update(command.get("save", ""))
            channel.reply({**figures, **meter.stop()})


if __name__ == "__main__":
    main()
