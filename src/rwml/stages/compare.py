"""`rwml compare`: every arm of a recipe over every seed -> compare.json, compare.html, ... Shared stages run once.

Every arm of every seed is an ordinary run folder, RUN/s<seed>/<arm>/; the examinations of a seed are in
RUN/s<seed>/evaluation/. A comparison that was cut off continues from its last finished part.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.files import appending
from rwml.core.guard.trust import allow, given_words
from rwml.core.progress import duration, note
from rwml.core.recipe.compare import ArmConfig
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.recipe.words_needed import check_words
from rwml.core.run import CHAIN, Run, adopt
from rwml.core.run_folder.claim import lock, own
from rwml.measure.compare.arm_examiner import ArmExaminer
from rwml.measure.compare.open_arms import open_arm, paid_stages
from rwml.measure.compare.paper_table import PAPER
from rwml.measure.compare.results import figures
from rwml.measure.harness import check_harness
from rwml.reports.compare_page import export
from rwml.stages import VERBS
from rwml.stages.pipeline import run_stage, stage_named

BASE_STAGES = ("collect", "transitions")
"""What the base arm does: the play that training transitions, held-out ones and baselines come from."""


def run(
    recipe: Recipe, arms: Sequence[str] = (), seeds: Sequence[int] = (), until: str | None = None, jobs: int = 1
) -> Path | None:
    """Run the unfinished stages of the named arms (default: the enabled ones) and seeds. Then write the report about
    every arm that was examined under the present recipe. Returns compare.html, None with `until` or while other
    processes work on seeds of the same comparison.

    until: stop after this stage (the examination is `evaluate`). jobs: seeds that run at once, a process each. An arm
    that fails does not stop the others, nor the report; then the first failure is raised.
    """
    check_words(recipe)
    _check(recipe, seeds)
    own(recipe.folder)
    last = stage_named(until) if until else "report"
    chosen = [arm.name for arm in recipe.compare.chosen(arms)]
    failures = _run_seeds(recipe, seeds or recipe.compare.seeds, chosen, last, jobs)
    page = _report(recipe, failures) if last == "report" and _alone(recipe) else None
    if failures:
        note(f"{len(failures)} failed; the report is of the others: {page}" if page else f"{len(failures)} failed")
        raise failures[0]
    return page


def _report(recipe: Recipe, failures: Sequence[RwmlError]) -> Path | None:
    """Write the report. None if nothing can be shown because of the failures, which say why."""
    try:
        return export(recipe.folder, figures(recipe))
    except RwmlError:
        if not failures:
            raise
        return None


def _check(recipe: Recipe, seeds: Sequence[int]) -> None:
    if not recipe.compare.arms:
        raise RwmlError(
            f"the recipe '{recipe.name}' has no [[compare.arms]]",
            "there is nothing to compare",
            "take recipes/compare_alfworld.toml as a pattern, or see docs/reference/compare.md",
        )
    if not (recipe.evaluate.tau_d or recipe.train_wm.tau_d):
        raise RwmlError(
            "neither evaluate.tau_d nor train_wm.tau_d is set",
            "every arm and seed must be measured by the same threshold, and the filter chooses one for each seed",
            "set evaluate.tau_d",
        )
    for arm in recipe.compare.arms:
        if arm.paper and arm.paper not in PAPER:
            raise RwmlError(
                f"arm '{arm.name}': the paper has no row '{arm.paper}'",
                "there would be nothing to compare it with",
                nearest(arm.paper, PAPER),
            )
    if "lm_eval" in recipe.compare.measures:
        if not recipe.measure.lm_eval:
            raise RwmlError(
                "compare.measures asks for lm_eval, and measure.lm_eval names no task",
                "there would be nothing to measure",
                'name tasks of lm-evaluation-harness: measure.lm_eval = ["arc_easy"]',
            )
        check_harness()
    for seed in seeds:
        if seed not in recipe.compare.seeds:
            raise RwmlError(
                f"seed {seed} is not one of compare.seeds = {list(recipe.compare.seeds)}",
                "the report would not show it",
                "add it to compare.seeds",
            )


def _alone(recipe: Recipe) -> bool:
    """Whether no other process works in the folder or on a seed of this comparison; until this one ends, none can
    begin to."""
    try:
        lock(recipe.folder)
        for seed in recipe.compare.seeds:
            lock(recipe.folder / f"s{seed}")
    except RwmlError as error:
        note(f"no report yet: {error.what}; the same command writes it when that is done")
        return False
    return True


def read_seeds(text: str) -> list[int]:
    """`0,2` as numbers; RwmlError for anything else."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise RwmlError(
            f"--seeds {text}: these are not whole numbers", "nothing would run", "write e.g. --seeds 0,1"
        ) from None


def run_seed(recipe: Recipe, seed: int, arms: Sequence[str], last: str) -> list[RwmlError]:
    """All arms under one seed, in turn. A stage that another arm finished is taken over. Returns the failures of arms
    and prints each at once. A failure of the base arm is raised, since all others need it.
    """
    lock(recipe.folder / f"s{seed}")
    examiner = ArmExaminer(recipe, seed)
    failures: list[RwmlError] = []
    for arm in (recipe.compare.arm(name) for name in arms):
        started = time.monotonic()
        note(f"== seed {seed}, {arm.name}")
        try:
            _run_arm(examiner, arm, last)
        except Exception as error:
            if arm.name == recipe.compare.base:
                raise
            failure = _failure(f"seed {seed}, {arm.name}", error)
            note(str(failure))
            failures.append(failure)
        note(f"== seed {seed}, {arm.name}: {duration(time.monotonic() - started)}")
    return failures


def _failure(place: str, error: Exception) -> RwmlError:
    if isinstance(error, RwmlError):
        return RwmlError(f"{place}: {error.what}", error.why, error.fix)
    traceback.print_exception(error)
    what = f"{place}: {type(error).__name__}: {error}"
    return RwmlError(
        what, "the arm is not done", "see the traceback above; the same command continues where it stopped"
    )


def _run_arm(examiner: ArmExaminer, arm: ArmConfig, last: str) -> None:
    whole, seed = examiner.whole, examiner.seed
    if arm.compute and CHAIN.index(last) < CHAIN.index("train_policy"):
        note(f"left for later: its number of policy steps follows from what all of {arm.compute} cost")
        return
    run = examiner.base if arm.name == whole.compare.base else open_arm(whole, arm, seed)
    if arm.compute:
        cost = f"what all of {arm.compute} cost, in {whole.compare.compute_unit}"
        note(f"{run.recipe.train_policy.steps} steps of policy training: {cost}")
    for stage in stages_of(run.recipe, arm):
        if CHAIN.index(stage) <= CHAIN.index(last):
            _do(run, stage, whole.folder / f"s{seed}")
    if CHAIN.index(last) >= CHAIN.index("evaluate"):
        examiner.examine(arm, run)
        examiner.take_measures(arm, run)


def stages_of(recipe: Recipe, arm: ArmConfig) -> tuple[str, ...]:
    """The stages that an arm's folder holds, in order. recipe: the arm's own."""
    return tuple(sorted(paid_stages(recipe, arm), key=CHAIN.index)) or BASE_STAGES


def _do(run: Run, stage: str, folder: Path) -> None:
    (verb,) = (verb for verb in VERBS if verb.stage == stage)
    if not run.is_done(stage):
        beside = adopt(run, stage, sorted(path.parent for path in folder.glob("*/manifest.json")))
        if beside is not None:
            note(f"{verb.name}: the same as in {beside.name}, taken over")
            return
    run_stage(run, verb)


def _run_seeds(recipe: Recipe, seeds: Sequence[int], arms: Sequence[str], last: str, jobs: int) -> list[RwmlError]:
    """Run the seeds; returns what failed, by seed and arm."""
    failures: list[RwmlError] = []
    if min(jobs, len(seeds)) <= 1:
        for seed in seeds:
            failures += _tried(recipe, seed, arms, last)
        return failures
    dumped = recipe.model_dump(mode="json")
    jobs = min(jobs, len(seeds))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(jobs, context, _start_worker, (os.getpid(), threads, stop, given_words())) as pool:
        futures = {pool.submit(_work, dumped, seed, list(arms), last): seed for seed in seeds}
        for seed in seeds:
            note(f"seed {seed}: its progress is in {_log(recipe, seed)}")
        try:
            for future in as_completed(futures):
                failed = future.result()
                note(f"seed {futures[future]}: {f'failed: {failed[0].what}' if failed else 'done'}")
                failures += failed
        except BaseException:
            stop.set()  # a worker would end its seed first, and begin the next
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failures


def _tried(recipe: Recipe, seed: int, arms: Sequence[str], last: str) -> list[RwmlError]:
    try:
        return run_seed(recipe, seed, arms, last)
    except Exception as error:
        return [_failure(f"seed {seed}", error)]


def _log(recipe: Recipe, seed: int) -> Path:
    return recipe.folder / f"s{seed}" / "log.txt"


def _start_worker(parent: int, threads: int, stop: Event, words: dict[str, list[str]]) -> None:
    import torch

    allow(**words)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too, and stops all

    def watch() -> None:
        while os.getppid() == parent and not stop.wait(1.0):
            pass
        os._exit(1)  # where the parent was killed, nobody else would end this process

    threading.Thread(target=watch, daemon=True).start()


def _work(dumped: dict[str, Any], seed: int, arms: list[str], last: str) -> list[RwmlError]:
    recipe = parse_recipe(dumped)
    path = _log(recipe, seed)
    own(recipe.folder)
    with appending(path) as handle, io.TextIOWrapper(handle, "utf-8", line_buffering=True) as text:
        with contextlib.redirect_stderr(text):
            return _tried(recipe, seed, arms, last)
