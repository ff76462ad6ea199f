"""What a model knew before training, measured on text and on worlds that the training did not show it.

Each function measures one model; `retention_change` puts two such results side by side, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from rwml.core.errors import RwmlError
from rwml.core.prompts import next_state_text
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.measure.figures.bootstrap import bootstrap_mean, compare
from rwml.measure.figures.metrics import cluster_of
from rwml.models.chat import ChatFormat
from rwml.models.language_model import LanguageModel
from rwml.trees.forward import tree_logprobs
from rwml.trees.tree import TreeBuilder
from rwml.world_models.language import LanguageWorldModel, label_ids, question_ids, too_long
from rwml.world_models.world_model import first_of_each

CORPUS = "retention_corpus.txt"
# Tokens, counted without sharing, that one tree takes at most.
BUDGET_TOKENS = 32768

Row = dict[str, Any]
Span = tuple[Sequence[int], int, int]


def read_corpus(path: str | Path = "") -> list[str]:
    """The passages of a plain-text file, split at blank lines; "" is the corpus that ships with rwml. Raises RwmlError
    if the file is missing, is not UTF-8 text or holds no passage.
    """
    try:
        source = Path(path).expanduser() if path else resources.files("rwml.measure") / CORPUS
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RwmlError(
            f"the corpus '{path}' cannot be read: {error}",
            "retention is measured on its passages",
            'give a text file in UTF-8 with measure.corpus, or "" for the corpus that ships with rwml',
        ) from None
    passages = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    if not passages:
        raise RwmlError(
            f"the corpus '{path}' holds no text", "retention is measured on its passages", "put passages into it"
        )
    return passages


def measure_text(
    lm: LanguageModel, passages: Sequence[str], max_context: int, num_samples: int = 2000
) -> dict[str, Any]:
    """Cross-entropy of plain text, without any chat turns around it (see docs/reference/measure.md).

    A passage begins with what the tokenizer puts before a text, if anything; the first token is given, all others are
    predicted. Passages are cut after `max_context` tokens; `cut` counts them. Losses are in nats.
    Returns `loss` (mean over passages of the mean over tokens, with an interval over passages), `bits_per_byte`,
    `tokens`, `passages`, `cut` and `rows` {passage number: {"loss", "tokens", "cluster"}}.
    """
    paths, cut, num_bytes = [], 0, 0
    for passage in passages:
        ids = list(lm.tokenizer(passage)["input_ids"])
        cut += len(ids) > max_context
        ids = ids[:max_context]
        if len(ids) > 1:
            paths.append((ids, 1, len(ids)))
            num_bytes += len(lm.tokenizer.decode(ids[1:], clean_up_tokenization_spaces=False).encode())
    sums = path_losses(lm, paths)
    tokens = [len(ids) - 1 for ids, _, _ in paths]
    rows: dict[str, Row] = {
        str(n): {"loss": total / count, "tokens": count, "cluster": str(n)}
        for n, (total, count) in enumerate(zip(sums, tokens, strict=True))
    }
    return {
        "passages": len(rows),
        "tokens": sum(tokens),
        "loss": _mean(rows, "loss", num_samples),
        "bits_per_byte": sum(sums) / math.log(2) / num_bytes if num_bytes else None,
        "cut": cut,
        "rows": rows,
    }


def measure_transitions(
    model: LanguageWorldModel, transitions: Sequence[Transition], generator: torch.Generator, num_samples: int = 2000
) -> dict[str, Any]:
    """Loss of the real next states and share of exact answers (see docs/reference/measure.md).

    The loss is the cross-entropy, in nats, of the next state's own tokens as the answer after an empty think; the tags
    around them do not count. Rows that exceed the context are left out; `too_long` counts them. Returns `n`, `loss`,
    `exact` and `unparsed` as means with intervals over tasks, and `rows` {transition id: {"loss", "tokens", "exact",
    "unparsed", "cluster"}}.
    """
    chat, prompts = model.lm.chat, model.prompts
    fitting = []
    long = too_long(chat, prompts, transitions, model.params.max_new_tokens, model.max_context)
    for row in transitions:
        if row.id not in long:
            question, label = question_ids(chat, prompts, row), label_ids(chat, row)
            start, stop = _state_span(chat, label)
            fitting.append((row, (question + label, len(question) + start, len(question) + stop)))
    kept = [row for row, _ in fitting]
    sums = path_losses(model.lm, [path for _, path in fitting])
    answers = first_of_each(model.predict([row.query for row in kept], 1, generator))
    rows: dict[str, Row] = {
        row.id: {
            "loss": total / (path[2] - path[1]),
            "tokens": path[2] - path[1],
            "exact": float(same_text(answer.next_state, row.next_state)),
            "unparsed": float(answer.next_state is None),
            "cluster": cluster_of(row.split, row.task),
        }
        for (row, path), total, answer in zip(fitting, sums, answers, strict=True)
    }
    means = {name: _mean(rows, name, num_samples) for name in ("loss", "exact", "unparsed")}
    return {"n": len(rows), **means, "too_long": len(transitions) - len(kept), "rows": rows}


def retention_change(
    before: Mapping[str, Any], after: Mapping[str, Any], num_samples: int = 2000
) -> dict[str, dict[str, Any]]:
    """Two results of `measure_text` or `measure_transitions` on the same rows: `loss` (and `exact`) before, after, and
    the paired difference with its interval."""

    def keyed(rows: Mapping[str, Row], name: str) -> dict[str, tuple[float, str]]:
        return {key: (row[name], row["cluster"]) for key, row in rows.items()}

    names = [name for name in ("loss", "exact") if name in before]
    return {name: compare(keyed(before["rows"], name), keyed(after["rows"], name), num_samples) for name in names}


def path_losses(lm: LanguageModel, paths: Sequence[Span], budget_tokens: int = BUDGET_TOKENS) -> list[float]:
    """Negative log-likelihood in nats of the tokens [start, stop) of each path (ids, start, stop); start >= 1.

    Consecutive paths go into one tree, up to so many tokens, and share what they have in common.
    """
    losses: list[float] = []
    at = 0
    while at < len(paths):
        size, stop_at = 0, at
        while stop_at < len(paths) and (stop_at == at or size + paths[stop_at][2] <= budget_tokens):
            size, stop_at = size + paths[stop_at][2], stop_at + 1
        builder = TreeBuilder()
        for ids, start, stop in paths[at:stop_at]:
            builder.add(ids[:stop], start, cross_entropy=1.0)
        tree = builder.build()
        logp_N = tree_logprobs(lm.model, tree).double().cpu().numpy()
        next_token = {(int(p), int(t)): n for n, (p, t) in enumerate(zip(tree.parent, tree.ids, strict=True))}
        for ids, start, stop in paths[at:stop_at]:
            token, total = -1, 0.0
            for depth, token_id in enumerate(ids[:stop]):
                token = next_token[token, token_id]
                total -= float(logp_N[token]) if depth >= start else 0.0
            losses.append(total)
        at = stop_at
    return losses


def _state_span(chat: ChatFormat, label: Sequence[int]) -> tuple[int, int]:
    """[start, stop) of a label's tokens that are the next state itself; tokens that also hold a part of the tags count
    with it."""
    before, after = chat.completion_of(next_state_text("\0")).split("\0")
    opening, closing = chat.text(before), chat.text(after) + chat.to_user[:1]
    start = next((n for n, (a, b) in enumerate(zip(label, opening, strict=False)) if a != b), len(opening))
    behind = zip(reversed(label[start:]), reversed(closing), strict=False)
    end = next((n for n, (a, b) in enumerate(behind) if a != b), min(len(closing), len(label) - start))
    return start, max(start + 1, len(label) - end)


def _mean(rows: Mapping[str, Row], name: str, num_samples: int) -> dict[str, Any]:
    values = [row[name] for row in rows.values()]
    return bootstrap_mean(values, [row["cluster"] for row in rows.values()], num_samples).as_json()
