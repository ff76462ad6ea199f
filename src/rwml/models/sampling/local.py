"""Sampling in this process, from any Hugging Face causal LM: many completions at once, over shared prefixes.

Every random number belongs to a row and a step, drawn before the first step: what one row says never depends on when
another one ends, and the same generator state, prompts and parameters give the same tokens.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from rwml.core.errors import NotFiniteError, RwmlError
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.kv import SharedPrefixCache, Trunk, plan_trunks, rows_at_a_time
from rwml.models.sampling.prefix_attention import ATTENTION_NAME
from rwml.models.sampling.reread import RereadCache
from rwml.models.sampling.sampler import SAMPLERS, Completion, SamplingParams

Rows = SharedPrefixCache | RereadCache

# The batch is made smaller when at most this share of its rows is still being written.
KEEP_SHARE = 0.75
# Whether a model takes our attention; tried once for each.
_shares: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def pick(logits_RV: Tensor, uniform_R: Tensor, params: SamplingParams) -> Tensor:
    """Sample one token a row by inverting the cumulative distribution at `uniform_R` (within [0, 1)); ids [R].

    A row whose logits hold NaN or +infinity has no distribution; its id is -1. One uniform number a row costs a
    thousandth of what one Gumbel per vocabulary entry costs.
    """
    if params.temperature == 0:
        logp_RV = logits_RV.log_softmax(-1)
        # Logits that round to one log-probability are a tie, and the first of them wins.
        ids = logp_RV.argmax(-1, keepdim=True)
        return ids[:, 0].masked_fill(logp_RV.gather(-1, ids)[:, 0].isnan(), -1)
    if params.temperature != 1:
        logits_RV = logits_RV / params.temperature
    probs_RV = logits_RV.softmax(-1)
    if params.top_k or params.top_p < 1:
        probs_RV = _cut(probs_RV, params)
    cumulative = probs_RV.cumsum(-1)
    total = cumulative[:, -1:]
    # The target stays below the total: the first entry above it has a probability greater than zero.
    target = torch.minimum(uniform_R[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)[:, 0].masked_fill(total[:, 0].isnan(), -1)


def _cut(probs_RV: Tensor, params: SamplingParams) -> Tensor:
    """Zero what top-k and then top-p (smallest set of the likeliest tokens that holds top_p of the mass) leave out."""
    ordered, order = probs_RV.sort(dim=-1, descending=True, stable=True)
    if params.top_k:
        ordered[:, params.top_k :] = 0
    if params.top_p < 1:
        before = ordered.cumsum(-1) - ordered
        ordered[before >= params.top_p * ordered.sum(-1, keepdim=True)] = 0
    return torch.zeros_like(probs_RV).scatter_(1, order, ordered)


@SAMPLERS.register("local")
def local_sampler(lm: LanguageModel, autocast: torch.dtype | None = None) -> LocalSampler:
    """A sampler of this process for a language model, with its stop tokens."""
    return LocalSampler(lm.model, lm.chat.stop_ids, autocast)


class LocalSampler:
    """The `Sampler` of this process: samples from `model`, and leaves it as it was (attention, training mode).

    stop_ids: tokens that end a completion. autocast: dtype of the matrix products and of the cache (None: the model's).
    A model that cannot share prefixes is sampled from all the same, with a warning: slowly, each context read whole.
    """

    def __init__(self, model: Any, stop_ids: Collection[int], autocast: torch.dtype | None = None) -> None:
        self.model, self.autocast = model, autocast
        self.device = next(model.parameters()).device
        self.stop_ids = torch.tensor(sorted(stop_ids), dtype=torch.long, device=self.device)
        if model not in _shares:
            _shares[model] = self._probe()
        self.shares = _shares[model]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        num_samples: int,
        params: SamplingParams,
        generator: torch.Generator,
        max_rows: int = 512,
    ) -> list[list[Completion]]:
        """num_samples completions of each prompt: [prompts][num_samples]; at most max_rows are written at a time, fewer
        where they would take up much of a CPU's memory."""
        results: list[list[Completion]] = [[] for _ in prompts]
        jobs = [(tuple(prompt), i) for i, prompt in enumerate(prompts) for _ in range(num_samples)]
        # Prompts that share a prefix come to lie in the same batch.
        jobs.sort(key=lambda job: job[0])
        max_rows = rows_at_a_time(self.model, params.max_new_tokens, max_rows)
        max_rows -= max_rows % max(1, min(num_samples, max_rows))  # whole prompts: few rows of one share no trunk
        for start in range(0, len(jobs), max_rows):
            batch = jobs[start : start + max_rows]
            with self.ready():
                cache, rows, tails = self.prefilled([prompt for prompt, _ in batch])
                logits = cache.feed(tails)
                # Rows of one trunk lie together, those that share most of it last.
                rows, order = rows.sort(stable=True)
                cache.select(rows)
                cache.reserve(params.max_new_tokens)
                chance = _Chance(params, generator, self.stop_ids)
                done = _write(cache, logits[rows], order, chance, _remove_finished)
            for (_, i), completion in zip(batch, done, strict=True):
                results[i].append(completion)
        return results

    def session(self, prompts: Sequence[Sequence[int]]) -> KVSession:
        """Begin a game of several turns with one row per prompt; equal prompts are computed once."""
        return KVSession(self, prompts)

    def prefilled(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Rows, Tensor, list[tuple[int, ...]]]:
        """A cache with a row for each distinct prompt, its trunks computed; the row of every given prompt; and the
        tokens of each row that are still to be fed (at least one)."""
        if any(not prompt for prompt in prompts):
            raise RwmlError(
                "an empty prompt cannot be continued",
                "the model needs at least one token to predict the next one from",
                "begin every prompt with the tokenizer's begin-of-text token",
            )
        counts = Counter(prompts)
        trunks, places = plan_trunks(list(counts), list(counts.values()))
        place = dict(zip(counts, places, strict=True))
        distinct = sorted(place, key=place.__getitem__)
        row = {prompt: i for i, prompt in enumerate(distinct)}
        cache = SharedPrefixCache(self.model, self.autocast) if self.shares else RereadCache(self.model)
        cache.add_trunks(trunks)
        cache.start_rows([place[prompt] for prompt in distinct])
        return cache, cache.tensor([row[prompt] for prompt in prompts]), [p[place[p][1] :] for p in distinct]

    def _probe(self) -> bool:
        """Whether our attention gives the model's own logits on a few tokens; if not, say so."""
        layers = getattr(self.model.config, "layer_types", None) or ["full_attention"]
        problem = ", ".join(sorted(set(layers) - {"full_attention", "sliding_attention"}))
        if not problem:
            ids = [i * 7919 % self.model.config.vocab_size for i in range(1, 9)]
            with self.ready(ours=False):
                own = self.model(torch.tensor([ids], device=self.device), use_cache=False).logits[0, -1].float()
            try:
                with self.ready():
                    cache = SharedPrefixCache(self.model, self.autocast)
                    cache.add_trunks([Trunk(-1, 0, tuple(ids[:3]))])
                    cache.start_rows([(0, 3)])
                    cache.feed([ids[3:7]])
                    shared = cache.step(cache.tensor(ids[7:]))[0]
                low = next(self.model.parameters()).dtype != torch.float32 or self.autocast is not None
                if (own - shared).abs().max() <= (0.1 if low else 1e-3) * (own.max() - own.min()):
                    return True
                problem = "other logits"
            except Exception as error:  # a model may raise anything on unexpected arguments
                problem = f"{type(error).__name__}: {error}"
        warnings.warn(
            f"{type(self.model).__name__} cannot share prefixes ({problem}): sampling reads every whole "
            "context for each token, which is right but slow",
            stacklevel=3,
        )
        return False

    @contextmanager
    def ready(self, *, ours: bool = True) -> Iterator[None]:
        """The model in evaluation mode with our attention (if it can share), and as it was afterwards."""
        model = self.model
        configs = {
            id(module.config): module.config
            for module in model.modules()
            if hasattr(getattr(module, "config", None), "_attn_implementation")
        }
        before = {key: config._attn_implementation for key, config in configs.items()}
        training = [module for module in model.modules() if module.training]
        for config in configs.values() if ours and _shares.get(model, True) else ():
            config._attn_implementation = ATTENTION_NAME
        model.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None),
            ):
                yield
        finally:
            for key, config in configs.items():
                config._attn_implementation = before[key]
            for module in training:
                module.training = True


@dataclass(frozen=True, slots=True)
class _Chance:
    """What decides the tokens of a message, and its end."""

    params: SamplingParams
    generator: torch.Generator
    stop_ids: Tensor


def _write(
    cache: Rows, logits: Tensor, batch: Tensor, chance: _Chance, compact: Callable[[Rows, Tensor], Tensor]
) -> list[Completion]:
    """Sample one message for each live row; `batch` numbers them, and the result comes in the order of its numbers.

    logits: [live rows, V], of the first token to sample. A row's last sampled token is not in the cache afterwards.
    compact: makes the batch smaller, `_remove_finished` or `_move_finished`.
    """
    params, generator = chance.params, chance.generator
    num_rows, steps, device = len(batch), params.max_new_tokens, logits.device
    uniform = torch.rand(num_rows, steps, generator=generator, device=generator.device).to(device)
    ids_RS = torch.zeros(num_rows, steps, dtype=torch.long, device=device)
    lengths = torch.full((num_rows,), steps, device=device)
    stopped = torch.zeros(num_rows, dtype=torch.bool, device=device)
    live = torch.ones(num_rows, dtype=torch.bool, device=device)
    num_left = num_rows
    for step in range(steps):
        ids = pick(logits, uniform[batch, step], params)
        ended = torch.isin(ids, chance.stop_ids) & live
        num_ended, num_lost = torch.stack((ended.sum(), ((ids < 0) & live).sum())).tolist()
        if num_lost:
            raise _no_distribution(num_lost, num_left, params)
        ids_RS[batch, step] = ids = ids.clamp(min=0)  # a finished row may have lost its distribution
        if num_ended:
            lengths[batch[ended]], stopped[batch[ended]] = step + 1, True
            live = live & ~ended
            num_left -= num_ended
        if not num_left or step + 1 == steps:
            break
        if num_left <= KEEP_SHARE * len(live):
            front = compact(cache, live)
            batch, ids, live = batch[front], ids[front], live[front]
        logits = cache.step(ids, live if num_left < len(live) else None)
    rows = zip(ids_RS.tolist(), lengths.tolist(), stopped.tolist(), strict=True)
    return [Completion(tuple(ids[:n]), not stop) for ids, n, stop in rows]


def _no_distribution(lost: int, rows: int, params: SamplingParams) -> NotFiniteError:
    return NotFiniteError(
        f"the model's logits are NaN or infinite in {lost} of {rows} answers (temperature {params.temperature:g})",
        "no token has a probability, and any token that is written all the same means nothing",
        "use weights that are sound (an earlier checkpoint, or the model before training), model.dtype = 'float32' "
        "and model.autocast = false, and a temperature that is not nearly 0",
    )


def _remove_finished(cache: Rows, live: Tensor) -> Tensor:
    """Keep the unfinished rows only; returns where each of them was."""
    front = live.nonzero()[:, 0]
    cache.select(front)
    return front


def _move_finished(cache: Rows, live: Tensor) -> Tensor:
    """Move the unfinished rows to the front, and let only them take part; returns where each of them was."""
    front = live.nonzero()[:, 0]
    holes, movers = (~live[: len(front)]).nonzero()[:, 0], front[front >= len(front)]
    front = torch.arange(len(front), device=live.device)
    front[holes] = movers
    cache.swap(holes, movers)
    cache.set_live(len(front))
    return front


class KVSession:
    """The `Session` of this process: the rows' keys and values are kept from turn to turn."""

    def __init__(self, sampler: LocalSampler, prompts: Sequence[Sequence[int]]) -> None:
        self._sampler = sampler
        self._dropped: set[int] = set()
        self._pending: list[list[int]] = [list(prompt[-1:]) for prompt in prompts]
        with sampler.ready():
            self._cache, rows, tails = sampler.prefilled([tuple(prompt) for prompt in prompts])
            self._cache.feed([tail[:-1] for tail in tails], want_logits=False)
            self._cache.select(rows)

    def sample(self, rows: Sequence[int], params: SamplingParams, generator: torch.Generator) -> list[Completion]:
        """Sample one message for each listed row, in that order."""
        assert len(set(rows)) == len(rows), "rows must be distinct"
        assert not self._dropped & set(rows), "a dropped row cannot continue"
        if not rows:
            return []
        cache, place = self._cache, {row: i for i, row in enumerate(rows)}
        with self._sampler.ready():
            cache.squeeze()
            self._to_front(rows)
            live = cache.row_ids[: len(rows)].tolist()
            logits = cache.feed([self._pending[row] for row in live])
            order = cache.tensor([place[row] for row in live])
            chance = _Chance(params, generator, self._sampler.stop_ids)
            done = _write(cache, logits, order, chance, _move_finished)
        for row, completion in zip(rows, done, strict=True):
            self._pending[row] = [completion.ids[-1]]
        return done

    def extend(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """Append known tokens to the rows' contexts; they are computed with the next `sample`."""
        for row, new in zip(rows, ids, strict=True):
            self._pending[row].extend(new)

    def drop(self, rows: Sequence[int]) -> None:
        """Forget rows. Their memory is given back once half of those still held are gone."""
        self._dropped.update(rows)
        held = self._cache.row_ids.tolist()
        kept = [slot for slot, row in enumerate(held) if row not in self._dropped]
        if len(kept) * 2 <= len(held):
            with torch.inference_mode():
                row_ids = self._cache.row_ids[kept]
                self._cache.select(self._cache.tensor(kept))
                self._cache.row_ids = row_ids

    def _to_front(self, rows: Sequence[int]) -> None:
        held, wanted, cache = self._cache.row_ids.tolist(), set(rows), self._cache
        holes = [slot for slot, row in enumerate(held[: len(rows)]) if row not in wanted]
        movers = [slot for slot, row in enumerate(held[len(rows) :], len(rows)) if row in wanted]
        if holes:
            cache.swap(cache.tensor(holes), cache.tensor(movers))
        cache.set_live(len(rows))
