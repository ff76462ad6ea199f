"""`rwml filter`: drop the too easy transitions (RWML, step 3) -> filtered.parquet, filter.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rwml.core.errors import RwmlError
from rwml.core.files import write_json
from rwml.core.progress import progress
from rwml.core.recipe.reward_names import asks_judge
from rwml.core.recipe.sections import SftConfig
from rwml.core.records import Parts, read_records, write_records
from rwml.core.run import Run, Stage
from rwml.core.seeds import generator_for, seed_of, share_of
from rwml.core.types import PredictedState, Transition
from rwml.loading import autocast_of, load_model, load_reward, load_world, world_model_of
from rwml.models.language_model import LanguageModel, load_chat, save_language_model
from rwml.models.sampling.sampler import SamplingParams
from rwml.rewards.rewards import LONG
from rwml.rewards.thresholds import calibrate, paper_tau_d
from rwml.train.batches import epochs_of
from rwml.train.steps import sft_steps
from rwml.train.trainer import Trainer, TrainingLog
from rwml.world_models.language import TOO_LONG, too_long
from rwml.world_models.world_model import scored

QUESTIONS_IN_FLIGHT = 64


def run(run: Run) -> None:
    """Train a predictor on a share of the rows, let it predict the others K times, and mark the easy ones."""
    reads = [run.folder / "transitions.parquet"]
    scored_by = ["train_wm.reward", *run.recipe.judge_settings]
    shared = ["train_wm.max_new_tokens", "train_wm.tokens_per_pass"]
    sections = ["world", "model", "embedding", "filter", *scored_by, *shared]
    with run.stage("filter", reads=reads, sections=sections) as stage:
        recipe, config = stage.recipe, stage.recipe.filter
        rows, long = _split_long(stage, read_records(run.folder / "transitions.parquet", Transition))
        if not config.enabled:
            marked, figures, failed = rows, dict[str, object](enabled=False), 0
        else:
            own = _predictor_rows(rows, config.predictor_fraction, recipe.seed)
            judged = [row for row in rows if row.split == "train" and row.id not in own]
            lm = _predictor(stage, [row for row in rows if row.id in own])
            distances_NK, failed = _distances(stage, lm, judged)
            marked, figures = _mark(stage, rows, own, judged, distances_NK)
        marked += long
        write_records(run.folder / "filtered.parquet", marked, Transition)
        write_json(run.folder / "filter.json", figures)
        stage.counts |= {"transitions": len(marked), "kept": sum(row.kept for row in marked)}
        if asks_judge(recipe.train_wm.reward):
            stage.counts["failed judgements"] = failed
        for reason, number in sorted(Counter(row.reason for row in marked if row.reason).items()):
            stage.counts[reason] = number


def _split_long(stage: Stage, rows: Sequence[Transition]) -> tuple[list[Transition], list[Transition]]:
    """The rows that the model can read and answer, and the others, dropped with their reason."""
    model = stage.recipe.model
    chat, prompts = (
        load_chat(model.path, trust_remote_code=model.trust_remote_code),
        load_world(stage.recipe).prompts(model.prompts),
    )
    answer = max(stage.recipe.filter.max_new_tokens, stage.recipe.train_wm.max_new_tokens)
    long = too_long(chat, prompts, rows, answer, model.max_context_tokens)
    dropped = [replace(row, kept=False, reason=TOO_LONG) for row in rows if row.id in long]
    if dropped and len(dropped) == len(rows):
        raise RwmlError(
            f"all {len(rows):,} transitions are longer than model.max_context_tokens = {model.max_context_tokens}, "
            f"with their next state or an answer of {answer} tokens",
            "the model cannot be asked about any of them, so there is nothing to learn from",
            "set transitions.history_steps to show fewer past exchanges, or raise model.max_context_tokens as far as "
            "the model reads; where one next state alone is longer, shorten the responses in the logs",
        )
    return [row for row in rows if row.id not in long], dropped


def _predictor_rows(rows: Sequence[Transition], fraction: float, seed: int) -> frozenset[str]:
    """Ids of the training rows that the predictor learns from. They stay in the training set: with them the paper's
    21,011 rows at 30% easy give its 15,813 (docs/reference/filter.md)."""
    return frozenset(
        r.id for r in rows if r.split == "train" and share_of(seed, "filter", "predictor", r.id) < fraction
    )


def _predictor(stage: Stage, rows: Sequence[Transition]) -> LanguageModel:
    """The separate predictor: the base model after WM SFT on its share."""
    recipe, config = stage.recipe, stage.recipe.filter
    folder = stage.folder / "predictor"
    if (folder / "final").is_dir():
        return load_model(recipe.model, folder / "final")
    lm = load_model(recipe.model, trainable=True)
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    training = SftConfig(
        learning_rate=config.predictor_learning_rate,
        epochs=config.predictor_epochs,
        checkpoint_every=10,
        tokens_per_pass=recipe.train_wm.tokens_per_pass,
    )
    batches = epochs_of(rows, training.batch_size, training.epochs, seed_of(recipe.seed, "filter", "order"))
    log = TrainingLog(folder, stage.metrics, "filter", recipe.seed)
    trainer = Trainer(lm, training, log, autocast=autocast_of(recipe.model))
    trainer.fit(sft_steps(lm, prompts, batches), len(batches), "filter: predictor")
    save_language_model(lm, folder / "final")
    return lm


def _distances(stage: Stage, lm: LanguageModel, rows: Sequence[Transition]) -> tuple[np.ndarray, int]:
    """Sim-to-real gaps of K predictions for each row, [N, K], and the number that the judge failed to score. Finished
    parts are read back.
    """
    recipe, config = stage.recipe, stage.recipe.filter
    model = world_model_of(recipe, lm, SamplingParams(config.max_new_tokens, config.temperature))
    # Easy means easy under the reward that trains. The threshold is chosen afterwards: only distances are used here.
    reward = load_reward(stage, 1.0)
    stage.counts[LONG] = reward.num_long(rows)
    parts = Parts(stage.folder / "predictor" / "predictions")
    chunks = [rows[i : i + QUESTIONS_IN_FLIGHT] for i in range(0, len(rows), QUESTIONS_IN_FLIGHT)]
    with progress("filter: predictions", total=len(rows), unit="transition") as bar:
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                generator = generator_for(recipe.seed, "filter", "predictions", index)
                groups = model.predict([row.query for row in chunk], config.num_predictions, generator)
                states = [state for group in groups for state in group]
                asked = [row for row in chunk for _ in range(config.num_predictions)]
                gaps, _ = reward.score([state.next_state for state in states], asked)
                kept = [scored(state, gap, 0.0) for state, gap in zip(states, gaps, strict=True)]
                parts.write(index, kept, PredictedState)
            bar.advance(len(chunk))
    states = parts.read(PredictedState, len(chunks))
    gaps_N = np.asarray([state.distance for state in states], dtype=np.float32)
    asked = [row for row in rows for _ in range(config.num_predictions)]
    failed = reward.failed_judgements([state.next_state for state in states], asked, gaps_N)
    return gaps_N.reshape(len(rows), config.num_predictions), failed


def _mark(
    stage: Stage,
    rows: Sequence[Transition],
    own: frozenset[str],
    judged: Sequence[Transition],
    distances_NK: np.ndarray,
) -> tuple[list[Transition], dict[str, object]]:
    """Write pass rate, kept and reason into every row; easy rows stay with probability `keep_probability`."""
    config, seed = stage.recipe.filter, stage.recipe.seed
    chosen = calibrate(distances_NK, config.target_share, config.tau_d, config.tau_easy)
    rates = dict(zip((row.id for row in judged), (distances_NK < chosen.tau_d).mean(axis=1), strict=True))
    marked = []
    for row in rows:
        rate = float(rates.get(row.id, -1.0))
        lucky = share_of(seed, "filter", "keep", row.id) < config.keep_probability
        drop = rate >= 0 and chosen.is_easy(rate) and not lucky
        marked.append(replace(row, pass_rate=rate, kept=not drop, reason="too easy" if drop else ""))
    figures: dict[str, object] = chosen.as_json() | {
        "enabled": True,
        "training_tau_d": paper_tau_d(chosen.tau_d),
        "predictor_rows": len(own),
        "judged_rows": len(judged),
    }
    return marked, figures
