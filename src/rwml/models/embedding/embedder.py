"""Embeddings of texts, and the cosine distance between them: the measure of the sim-to-real gap (RWML)."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rwml.core.errors import RwmlError
from rwml.models.embedding.minilm import MiniLM
from rwml.models.embedding.parts import MAX_PARTS, part_distance, windows
from rwml.models.embedding.vector_store import VectorStore, text_key
from rwml.models.language_model import pick_device, sampled_weights

MINILM = "minilm"
# Texts that are embedded, and written to the cache, at a time: a kill loses at most these, some seconds of work.
TEXTS_AT_ONCE = 256
PAIRS_AT_ONCE = 4096
# A text of fewer bytes has fewer tokens than any model reads; its parts are not asked for.
SHORT = 96

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """A model behind the cache. fingerprint: changes whenever the vectors would."""

    width: int
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> tuple[Floats, int]:
        """Unit vectors [N, E] float32, and how many of the texts were longer than the model reads."""

    def parts(self, text: str) -> list[str]:
        """The text in parts that the model reads whole; one part where it cannot be cut."""


@dataclass(slots=True)
class EmbedStats:
    """What an embedder was asked and what it did, since it was made.

    texts: asked for; unique: distinct texts within each call; `cache_hits` of them were known and `embedded` were
    computed. truncated: texts whose ends did not count: embedded whole though longer than the model reads, or of more
    than `MAX_PARTS` parts. pairs: distances asked for; `equal_pairs` of them cost nothing, `parted_pairs` were compared
    part by part. seconds: spent in the model, tokenizer included.
    dropped_bytes: cut off the cache file, left half written by a killed process.
    """

    texts: int = 0
    unique: int = 0
    cache_hits: int = 0
    embedded: int = 0
    truncated: int = 0
    pairs: int = 0
    equal_pairs: int = 0
    parted_pairs: int = 0
    seconds: float = 0.0
    dropped_bytes: int = 0


class Embedder:
    """Embeds each different text once, ever: results are kept in memory or, with `cache`, in a file of that folder.

    path: "minilm" (all-MiniLM-L6-v2, offline), a sentence-transformers folder, or a hub name. prefix: put before
    every text (instruction-tuned models); "" leaves the model's own default prompt in force. batch_size: texts per
    forward pass. device: "auto", "cpu", "cuda", ... All methods may be called from several threads.
    Raises RwmlError where the model cannot be loaded, or the cache not be written.
    """

    def __init__(
        self,
        path: str = MINILM,
        prefix: str = "",
        batch_size: int = 64,
        device: str = "auto",
        cache: Path | None = None,
    ) -> None:
        self.path, self.prefix = path, prefix
        place = pick_device(device, "embedding.device")
        self._encoder: Encoder
        if path == MINILM:
            self._encoder = _Prefixed(MiniLM(batch_size, place), prefix) if prefix else MiniLM(batch_size, place)
        else:
            self._encoder = SentenceTransformerEncoder(path, prefix, batch_size, place)
        self.fingerprint = hashlib.sha256(f"{self._encoder.fingerprint}\0{prefix}".encode()).hexdigest()
        file = None if cache is None else Path(cache) / f"embeddings-{self.fingerprint[:16]}.vec"
        self._store = VectorStore(file, self._encoder.width)
        self.stats = EmbedStats(dropped_bytes=self._store.dropped_bytes)
        self._parts: dict[bytes, list[str]] = {}
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None

    @property
    def width(self) -> int:
        """E, the length of a vector."""
        return self._encoder.width

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors [N, E] of the texts, float32, on CPU. Cached ones are bit-identical to fresh ones."""
        keys = self._known(texts)
        with self._lock:
            return torch.from_numpy(self._store.get(keys))

    def embed_async(self, texts: Sequence[str]) -> Future[torch.Tensor]:
        """Like `embed`, on one background thread, in the order of the calls.

        torch releases the interpreter lock inside its operations, so that a second core can embed while the first
        samples. Other calls interleave with it, `TEXTS_AT_ONCE` texts at a time.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")
        return self._worker.submit(self.embed, list(texts))

    def distances(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """1 - cosine of each pair, [N] float32 within [0, 2]; exactly 0.0 for equal texts, which are never embedded.

        Where a text is longer than the model reads, the distance is that of the part of either text which is farthest
        from every part of the other (`parts`).
        """
        out = np.zeros(len(pairs), dtype=np.float32)
        unequal = [row for row, (left, right) in enumerate(pairs) if left != right]
        whole = [row for row in unequal if all(len(self.parts(text)) == 1 for text in pairs[row])]
        self._known([part for row in unequal for text in pairs[row] for part in self.parts(text)])
        for start in range(0, len(whole), PAIRS_AT_ONCE):
            rows = whole[start : start + PAIRS_AT_ONCE]
            keys = [[text_key(pairs[row][side]) for row in rows] for side in (0, 1)]
            with self._lock:
                left_NE, right_NE = (self._store.get(side) for side in keys)
            out[rows] = cosine_distances(left_NE, right_NE)
        for row in set(unequal).difference(whole):
            out[row] = self._part_distance(*map(self.parts, pairs[row]))
        with self._lock:
            self.stats.pairs += len(pairs)
            self.stats.equal_pairs += len(pairs) - len(unequal)
            self.stats.parted_pairs += len(unequal) - len(whole)
        return out

    def _part_distance(self, left: Sequence[str], right: Sequence[str]) -> float:
        """Of two texts, by their parts. Parts that only one of them has decide it, so equal ones have distance 0."""
        with self._lock:
            left_LE, right_RE = (self._store.get([text_key(part) for part in side]) for side in (left, right))
        each_LR = np.stack([cosine_distances(np.broadcast_to(one_E, right_RE.shape), right_RE) for one_E in left_LE])
        for place, part in enumerate(left):
            each_LR[place, [r for r, other in enumerate(right) if other == part]] = 0.0
        return part_distance(each_LR)

    def parts(self, text: str) -> list[str]:
        """The text in parts that the model reads whole, at most `MAX_PARTS`; what lies behind them is not compared."""
        if len(text.encode("utf-8", "replace")) < SHORT:
            return [text]
        key = text_key(text)
        with self._lock:
            if key not in self._parts:
                found = self._encoder.parts(_readable(text))
                self.stats.truncated += len(found) > MAX_PARTS
                self._parts[key] = found[:MAX_PARTS] if len(found) > 1 else [text]
            return self._parts[key]

    def close(self) -> None:
        """End the background thread and let go of the cache file."""
        if self._worker is not None:
            self._worker.shutdown()
        self._store.close()

    def _known(self, texts: Sequence[str]) -> list[bytes]:
        """Embed the texts that the store does not hold yet; returns the key of every text."""
        text_of = {text_key(text): text for text in dict.fromkeys(texts)}
        key_of = {text: key for key, text in text_of.items()}
        with self._lock:
            missing = [key for key in text_of if key not in self._store]
            self.stats.texts += len(texts)
            self.stats.unique += len(text_of)
            self.stats.cache_hits += len(text_of) - len(missing)
        for start in range(0, len(missing), TEXTS_AT_ONCE):
            part = missing[start : start + TEXTS_AT_ONCE]
            self._compute({key: text_of[key] for key in part})
        return [key_of[text] for text in texts]

    def _compute(self, text_of: dict[bytes, str]) -> None:
        with self._lock:
            # Another thread may have been faster.
            keys = [key for key in text_of if key not in self._store]
            self.stats.cache_hits += len(text_of) - len(keys)
            if not keys:
                return
            began = time.perf_counter()
            vectors_NE, truncated = self._encoder.encode([_readable(text_of[key]) for key in keys])
            self.stats.seconds += time.perf_counter() - began
            self.stats.embedded += len(keys)
            self.stats.truncated += truncated
            self._store.add(keys, vectors_NE)
            self.stats.dropped_bytes = self._store.dropped_bytes


def cosine_distances(left_NE: Floats, right_NE: Floats) -> Floats:
    """1 - cosine of rows, [N] float32 within [0, 2]. Double precision inside: distances near 0 decide rewards."""
    left, right = left_NE.astype(np.float64), right_NE.astype(np.float64)
    dots = np.einsum("ne,ne->n", left, right)
    norms = np.sqrt(np.einsum("ne,ne->n", left, left) * np.einsum("ne,ne->n", right, right))
    return np.clip(1.0 - dots / norms, 0.0, 2.0).astype(np.float32)


def _readable(text: str) -> str:
    """The text with lone surrogates, which tokenizers refuse, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


class _Prefixed:
    """An encoder that sees a prefix before every text."""

    def __init__(self, encoder: MiniLM, prefix: str) -> None:
        self.width, self.fingerprint = encoder.width, encoder.fingerprint
        self._encoder, self._prefix = encoder, prefix

    def encode(self, texts: Sequence[str]) -> tuple[Floats, int]:
        return self._encoder.encode([self._prefix + text for text in texts])

    def parts(self, text: str) -> list[str]:
        return self._encoder.parts(text, self._encoder.num_tokens(self._prefix))


class SentenceTransformerEncoder:
    """Any sentence-transformers model, by folder (no network is touched) or hub name; no remote code is run."""

    def __init__(self, path: str, prefix: str, batch_size: int, device: torch.device) -> None:
        self._prompt, self._batch_size = prefix or None, batch_size
        self._model = _load_sentence_transformer(path, device)
        self.width = self._probe(path)
        self.fingerprint = _fingerprint(self._model)

    def encode(self, texts: Sequence[str]) -> tuple[Floats, int]:
        """See `Encoder.encode`."""
        given = list(texts)
        vectors = self._model.encode(
            given,
            prompt=self._prompt,
            batch_size=self._batch_size,
            show_progress_bar=False,
            convert_to_tensor=True,
        )
        return F.normalize(vectors.float(), dim=1).cpu().numpy(), self._count_truncated(given)

    def parts(self, text: str) -> list[str]:
        """See `Encoder.parts`. A tokenizer that does not say where its tokens lie cuts nothing."""
        limit, tokenizer = self._model.max_seq_length, self._model.tokenizer
        if not limit or not getattr(tokenizer, "is_fast", False):
            return [text]
        read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        prompt = tokenizer(self._prompt or "", add_special_tokens=False)["input_ids"]
        room = max(1, limit - tokenizer.num_special_tokens_to_add() - len(prompt))
        spans = [tuple(span) for span in read["offset_mapping"]]
        return [text[start:end] for start, end in windows(spans, room)] if len(spans) > room else [text]

    def _probe(self, path: str) -> int:
        try:
            vector = self._model.encode(["a"], show_progress_bar=False, convert_to_tensor=True)
            return int(vector.shape[1])
        except Exception as error:
            raise _load_error(path, error) from error

    def _count_truncated(self, texts: list[str]) -> int:
        limit, tokenizer = self._model.max_seq_length, self._model.tokenizer
        if not limit or not callable(tokenizer):
            return 0
        prompt = self._prompt or ""
        ids = tokenizer([prompt + text for text in texts], truncation=True, max_length=limit + 1)["input_ids"]
        return sum(len(row) > limit for row in ids)


def _load_sentence_transformer(path: str, device: torch.device) -> Any:
    folder = Path(path).expanduser()
    if not folder.exists() and path.startswith((".", "/", "~")):
        raise _load_error(path, FileNotFoundError("there is no such folder"))
    try:
        from sentence_transformers import SentenceTransformer

        name = str(folder) if folder.exists() else path
        return SentenceTransformer(name, device=str(device), local_files_only=folder.exists(), trust_remote_code=False)
    except Exception as error:  # whatever a library that reads foreign files raises
        raise _load_error(path, error) from error


def _load_error(path: str, error: Exception) -> RwmlError:
    lines = str(error).strip().splitlines() or [""]
    return RwmlError(
        f"embedding model '{path}' cannot be loaded: {type(error).__name__}: {lines[0]}",
        "every reward is a distance between embeddings; without the model no reward can be computed",
        f"set embedding.path to '{MINILM}' (comes with rwml, works offline), to a sentence-transformers folder, "
        "or to a hub name that this machine can reach",
    )


def _fingerprint(model: Any) -> str:
    """Modules, prompts, tokenizer size, and the weights (`sampled_weights`)."""
    settings = [str(model), model.max_seq_length, model.prompts, model.default_prompt_name]
    vocabulary: dict[str, int] = getattr(model.tokenizer, "get_vocab", dict)()
    digest = hashlib.sha256(repr([settings, sorted(vocabulary.items())]).encode("utf-8", "surrogatepass"))
    for part in sampled_weights(model):
        digest.update(part)
    return f"sentence-transformers/{digest.hexdigest()}"


