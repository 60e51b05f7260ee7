"""Feature vectors of stimuli from their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affectlake.encoders.torch_models import refuse_torchvision_of_another_build
from affectlake.encoders.unit_vectors import unit_vectors
from affectlake.errors import SourceError, UsageError
from affectlake.extras import install
from affectlake.judge.agents import FeaturesAgent, SentenceTransformers, TfidfSvd
from affectlake.process.blas_threads import one_thread

Captions = Sequence[Sequence[str]]
FloatMatrix = NDArray[np.float32]

USUAL = 300
"""Number of components that ``auto`` stands for, if there are that many."""


def text_vectors(captions: Captions, agent: FeaturesAgent, seed: int) -> FloatMatrix:
    """Return one vector per stimulus from the agent's encoder.

    Parameters
    ----------
    captions : sequence of sequences of str
        The captions of each stimulus, in the order of the catalogue; each stimulus has at least one.
    agent : FeaturesAgent
        An agent whose encoder uses captions.
    seed : int
        Seed of the encoder's random start, if it has one.

    Returns
    -------
    float32 (n_stimuli, n_features)
        Vectors of length 1.

    Raises
    ------
    SourceError
        If a stimulus has no caption, or its captions have no word in common with the others.
    UsageError
        If the encoder is not available, or has more components than the captions allow.
    """
    without = [index for index, texts in enumerate(captions) if not texts]
    if without:
        raise SourceError(
            f"{len(without):,} of {len(captions):,} stimuli have no caption",
            found=f"stimulus_index {', '.join(map(str, without[:5]))}",
            todo="provide a captions file that covers them, exclude them, or remove the text agents",
        )
    if isinstance(agent.encoder, TfidfSvd):
        return tfidf_svd(captions, agent.encoder.n_components, seed)
    assert isinstance(agent.encoder, SentenceTransformers), agent.encoder
    return sentence_transformer(captions, agent.encoder.model)


def tfidf_svd(captions: Captions, n_components: int | Literal["auto"], seed: int) -> FloatMatrix:
    """Return the captions' TF-IDF weights, reduced by truncated SVD.

    The captions of a stimulus form one document. Terms are lower-case words of at least two letters, without English
    stop words, that occur in at least two documents; weights are (1 + ln tf) idf, with rows of length 1 (scikit-learn's
    ``TfidfVectorizer``). The SVD is computed by ARPACK, which iterates to machine precision from a random start.

    Parameters
    ----------
    captions : sequence of sequences of str
        The captions of each stimulus.
    n_components : int or "auto"
        Number of components; less than the number of stimuli and the number of terms. ``auto``: `USUAL`, or the most
        that there are.
    seed : int
        Seed of the random start.

    Returns
    -------
    float32 (n_stimuli, n_components)
        Rows of length 1.

    Raises
    ------
    SourceError
        If there is no term, or a stimulus has no term.
    UsageError
        If there are fewer components than `n_components`.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    documents = [" ".join(texts) for texts in captions]
    vectoriser = TfidfVectorizer(stop_words="english", min_df=2, sublinear_tf=True)
    try:
        weights = vectoriser.fit_transform(documents)  # (n_stimuli, n_terms)
    except ValueError as error:
        raise SourceError(
            "the captions have no words in common",
            wanted="words, other than stop words, that occur in the captions of at least two stimuli",
            found=str(error),
        ) from error
    most = min(weights.shape) - 1
    wanted = max(1, min(USUAL, most)) if n_components == "auto" else n_components
    if not 1 <= wanted <= most:
        raise UsageError(
            f"the captions have fewer than {wanted:,} components",
            found=f"{weights.shape[0]:,} stimuli and {weights.shape[1]:,} terms",
            allowed=f"1 to {most:,}",
            todo="lower the encoder's n_components",
        )
    svd = TruncatedSVD(wanted, algorithm="arpack", random_state=seed)
    with one_thread():  # so that sums are taken in the same order for any number of cores
        return _at_length_one(svd.fit_transform(weights))


def sentence_transformer(captions: Captions, model: str, device: str = "cpu", batch_size: int = 64) -> FloatMatrix:
    """Return the mean of each stimulus's caption encodings.

    Parameters
    ----------
    captions : sequence of sequences of str
        The captions of each stimulus.
    model : str
        Name of a sentence-transformers model, or a folder with one.
    device : str
        Torch device, such as ``cpu`` or ``cuda``.
    batch_size : int
        Number of captions encoded at a time.

    Returns
    -------
    float32 (n_stimuli, n_features)
        Rows of length 1.

    Raises
    ------
    UsageError
        If the sentence-transformers package or the model is not available.
    """
    refuse_torchvision_of_another_build()
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UsageError(
            "the sentence-transformers package is not installed",
            wanted=f"the package, to load {model!r}",
            todo=f"{install('text')}, or use the tfidf-svd encoder",
        ) from error
    try:
        encoder = SentenceTransformer(model, device=device)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"the sentence-transformers model {model!r} cannot be loaded",
            wanted="a folder with a model, or the name of one that can be downloaded",
            found=str(error).strip().splitlines()[0],
            todo="correct the encoder's model",
        ) from error
    texts = [text for of_stimulus in captions for text in of_stimulus]
    encoded = encoder.encode(texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False)
    counts = [len(of_stimulus) for of_stimulus in captions]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(np.asarray(encoded, dtype=np.float64), starts, axis=0)  # (n_stimuli, n_features)
    return _at_length_one(sums / np.array(counts)[:, None])


def _at_length_one(vectors: NDArray[np.float64]) -> FloatMatrix:
    lost, todo = "captions without features for this encoder", "give them other captions, raise n_components, or"
    return unit_vectors(vectors, lost, f"{todo} exclude them")
