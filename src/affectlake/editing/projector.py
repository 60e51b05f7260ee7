"""From embeddings to text tokens: the perceptron of Du et al. 2025 and the ridge regression that it has to beat.

Videos are divided into three parts: *training* videos are learned, *stopping* videos choose the epoch of the
perceptron, the penalty of the ridge and the better of the two, and *reported* videos are used once, for the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from affectlake.editing.losses import Targets
from affectlake.editing.network import Epoch, Network, Trained, train
from affectlake.editing.retrieval import Retrieval, ranks, retrieval
from affectlake.editing.settings import TrainingSettings
from affectlake.editing.tokens import TokenBasis, position_r2, token_basis
from affectlake.encoders.torch_models import one_thread_each
from affectlake.errors import SourceError

Kind = Literal["mlp", "ridge"]
FloatArray = NDArray[np.float32]

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Candidate penalties of the ridge, in squared units of the embedding's weights, for the sum over training videos."""

FEWEST_VIDEOS = 20
"""Smallest number of videos that can be divided into three parts."""


class Parts(NamedTuple):
    """Rows of the training, stopping and reported videos, each in ascending order."""

    training: NDArray[np.intp]
    stopping: NDArray[np.intp]
    reported: NDArray[np.intp]


def divide(n: int, held_out: float, rng: np.random.Generator) -> Parts:
    """Divide n videos at random; the stopping and the reported videos are a share `held_out` each.

    Parameters
    ----------
    n : int
        Number of videos, at least `FEWEST_VIDEOS`.
    held_out : float
        Share of each of the two held-out parts, above 0 and below 0.5.
    rng : numpy.random.Generator
        Source of the division.

    Raises
    ------
    SourceError
        If there are too few videos.
    """
    n_each = max(2, round(n * held_out))
    if n < FEWEST_VIDEOS or n - 2 * n_each < 2:
        raise SourceError(
            "too few videos for a projector", wanted=f"at least {FEWEST_VIDEOS} with captions", found=str(n)
        )
    order = rng.permutation(n)
    return Parts(np.sort(order[2 * n_each :]), np.sort(order[:n_each]), np.sort(order[n_each : 2 * n_each]))


@dataclass(frozen=True)
class Projector:
    """A map from embeddings to the joint space and to token features.

    Parameters
    ----------
    kind : {'mlp', 'ridge'}
        What it is.
    weights : mapping of str to float32 array
        Of the perceptron, by the names of its torch module; or of the ridge: ``joint.weight`` (n_dimensions, n_joint),
        ``joint.bias``, and ``scores.weight`` (n_dimensions, k) with ``scores.bias`` if there are tokens.
    basis : TokenBasis, optional
        Principal components of the tokens; None: the projector has no tokens.
    training : float32 (n, n_dimensions)
        Embeddings of the training videos.
    """

    kind: Kind
    weights: Mapping[str, FloatArray]
    basis: TokenBasis | None
    training: FloatArray

    def joint(self, embedding: NDArray[np.floating]) -> FloatArray:
        """Return f_proj, float32 (n, n_joint), of embeddings (n, n_dimensions). Its length is not 1."""
        return self._outputs(embedding)[0]

    def tokens(self, embedding: NDArray[np.floating]) -> FloatArray:
        """Return token features, float32 (n, n_positions, width), of embeddings (n, n_dimensions).

        Raises
        ------
        SourceError
            If it was learned without token features, or the embeddings have another number of dimensions.
        """
        scores = self._outputs(embedding)[1]
        if self.basis is None or scores is None:
            raise SourceError("the projector has no tokens", wanted="one that was learned with token features")
        return self.basis.tokens(scores)

    def distance(self, embedding: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how far embeddings (n, n_dimensions) are from the training data.

        The distance to the nearest training embedding, divided by the usual one: the median distance of a training
        embedding to its nearest other one that is not equal to it. Above about 2, the projector extrapolates.
        """
        self._check(embedding)
        return _nearest(np.asarray(embedding, np.float64), self.training) / self.usual_distance

    @property
    def usual_distance(self) -> float:
        """Median distance of a training embedding to its nearest different one; NaN if all are equal."""
        found = _nearest(np.asarray(self.training, np.float64), self.training, without_equal=True)
        finite = found[np.isfinite(found)]
        return float(np.median(finite)) if len(finite) else float("nan")

    def arrays(self) -> dict[str, FloatArray]:
        """Return everything by name, from which :func:`from_arrays` restores the projector."""
        found = {name: np.asarray(value, np.float32) for name, value in self.weights.items()}
        found["training"] = self.training
        if self.basis is not None:
            found["tokens.mean"], found["tokens.components"] = self.basis.mean, self.basis.components
            found["tokens.variance"] = np.array([self.basis.explained, self.basis.unexplained], np.float32)
        return found

    def _check(self, embedding: NDArray[np.floating]) -> None:
        n_dimensions = self.training.shape[1]
        if embedding.ndim != 2 or embedding.shape[1] != n_dimensions:
            raise SourceError(
                "embeddings do not fit the projector",
                wanted=f"{n_dimensions} dimensions",
                found=f"an array of shape {embedding.shape}",
            )

    def _outputs(self, embedding: NDArray[np.floating]) -> tuple[FloatArray, FloatArray | None]:
        self._check(embedding)
        x = np.ascontiguousarray(embedding, np.float32)
        if self.kind == "ridge":
            joint, scores = (
                None if f"{name}.weight" not in self.weights
                else (x.astype(np.float64) @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])
                .astype(np.float32)
                for name in ("joint", "scores")
            )  # fmt: skip
            assert joint is not None
            return joint, scores
        with one_thread_each(), torch.inference_mode():
            made, found = _network(self.weights)(torch.from_numpy(x))
        return made.numpy(), None if found is None else found.numpy()


def from_arrays(kind: Kind, arrays: Mapping[str, FloatArray]) -> Projector:
    """Restore a projector from :meth:`Projector.arrays`."""
    basis = None
    if "tokens.mean" in arrays:
        explained, unexplained = arrays["tokens.variance"].tolist()
        basis = TokenBasis(arrays["tokens.mean"], arrays["tokens.components"], explained, unexplained)
    weights = {name: value for name, value in arrays.items() if not name.startswith("tokens.") and name != "training"}
    return Projector(kind, weights, basis, arrays["training"])


def _network(weights: Mapping[str, FloatArray]) -> Network:
    linear = [name for name, value in weights.items() if name.startswith("trunk.") and value.ndim == 2]
    linear.sort(key=lambda name: int(name.split(".")[1]))
    first, last = weights[linear[0]], weights[linear[-1]]
    n_components = len(weights["head.weight"]) if "head.weight" in weights else 0
    network = Network(first.shape[1], last.shape[0], n_components, len(linear), last.shape[1])
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return network.eval()


def _nearest(points: NDArray[np.float64], others: FloatArray, *, without_equal: bool = False) -> NDArray[np.float64]:
    """Return each point's distance to the nearest other; `without_equal`, to the nearest one at another place."""
    found = np.empty(len(points))
    for start in range(0, len(points), 256):
        between = np.linalg.norm(points[start : start + 256, None] - others[None].astype(np.float64), axis=2)
        if without_equal:
            between[between == 0] = np.inf
        found[start : start + 256] = between.min(axis=1)
    return found


class Material(NamedTuple):
    """What projectors are learned from; rows are videos.

    Parameters
    ----------
    embedding : float (n, n_dimensions)
        The agent's embedding.
    language : float32 (n, n_joint)
        Text features of the captions, of length 1.
    vision : float32 (n, n_joint), optional
        Image features in the same space, of length 1.
    tokens : float32 (n, n_positions, width), optional
        Token features of one caption of each video.
    """

    embedding: NDArray[np.floating]
    language: FloatArray
    vision: FloatArray | None = None
    tokens: FloatArray | None = None

    def rows(self, rows: NDArray[np.intp]) -> Material:
        """Return the material of some videos."""
        return Material(*(None if one is None else one[rows] for one in self))  # type: ignore[arg-type]


def fit_ridge(training: Material, stopping: Material, basis: TokenBasis | None) -> tuple[Projector, dict[str, float]]:
    """Fit a ridge regression, whose penalty is the best one on the stopping videos, for joint space and tokens each.

    The target in the joint space is the language feature, or, with image features, the mean of both.

    Returns
    -------
    projector : Projector
        The ridge.
    penalties : dict
        The chosen penalties of ``joint`` and ``scores``.
    """
    goals: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = {"joint": (_goal(training), _goal(stopping))}
    if basis is not None:
        assert training.tokens is not None and stopping.tokens is not None
        goals["scores"] = (basis.scores(training.tokens), basis.scores(stopping.tokens))
    x = np.asarray(training.embedding, np.float64)
    outside = np.asarray(stopping.embedding, np.float64)
    centre = x.mean(axis=0)
    u, s, vt = np.linalg.svd(x - centre, full_matrices=False)
    weights: dict[str, FloatArray] = {}
    penalties: dict[str, float] = {}
    for name, (goal, goal_outside) in goals.items():
        middle = goal.mean(axis=0, dtype=np.float64)
        turned = u.T @ (goal - middle)
        best: tuple[float, float, NDArray[np.float64]] | None = None
        for penalty in PENALTIES:
            found = vt.T @ ((s / (s * s + penalty))[:, None] * turned)
            error = float(np.square((outside - centre) @ found + middle - goal_outside).mean())
            if best is None or error < best[0]:
                best = error, penalty, found
        assert best is not None
        penalties[name] = best[1]
        weights[f"{name}.weight"] = best[2].astype(np.float32)
        weights[f"{name}.bias"] = (middle - centre @ best[2]).astype(np.float32)
    return Projector("ridge", weights, basis, x.astype(np.float32)), penalties


def _goal(material: Material) -> NDArray[np.float64]:
    language = material.language.astype(np.float64)
    return language if material.vision is None else (language + material.vision) / 2


def fit_mlp(
    training: Material,
    stopping: Material,
    basis: TokenBasis | None,
    settings: TrainingSettings,
    rng: np.random.Generator,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[Projector, Trained]:
    """Train the perceptron (:func:`affectlake.editing.network.train`)."""
    trained = train(
        training.embedding,
        _targets(training, basis),
        (stopping.embedding, _targets(stopping, basis)),
        settings,
        rng,
        n_token_elements=1 if basis is None else basis.mean.size,
        unexplained=0.0 if basis is None else basis.unexplained,
        device=device,
        on_epoch=on_epoch,
    )
    weights = {name: value.numpy() for name, value in trained.network.state_dict().items()}
    return Projector("mlp", weights, basis, np.asarray(training.embedding, np.float32)), trained


def _targets(material: Material, basis: TokenBasis | None) -> Targets:
    vision = None if material.vision is None else torch.from_numpy(material.vision)
    scores = None
    if basis is not None:
        assert material.tokens is not None
        scores = torch.from_numpy(basis.scores(material.tokens))
    return Targets(torch.from_numpy(material.language), vision, scores)


def basis_of(training: Material, n_components: int) -> TokenBasis | None:
    """Return the principal components of the training videos' tokens; None without tokens."""
    return None if training.tokens is None else token_basis(training.tokens, n_components)


class Scores(NamedTuple):
    """Scores on videos that were neither learned nor used for a choice.

    `language` and `vision` are retrieval by the joint vector, `token_r2` is R² of all token features together, and
    `position_r2` of each position (NaN: it does not vary). None: there is no such modality.
    """

    language: Retrieval
    vision: Retrieval | None
    token_r2: float | None
    position_r2: NDArray[np.float64] | None


def score(projector: Projector, held_out: Material, rng: np.random.Generator) -> Scores:
    """Score a projector on held-out videos."""
    joint = projector.joint(held_out.embedding)
    language = retrieval(joint, held_out.language, rng)
    vision = None if held_out.vision is None else retrieval(joint, held_out.vision, rng)
    if projector.basis is None or held_out.tokens is None:
        return Scores(language, vision, None, None)
    predicted, mean = projector.tokens(held_out.embedding), projector.basis.mean
    return Scores(
        language,
        vision,
        token_r2(predicted, held_out.tokens, mean),
        position_r2(predicted, held_out.tokens, mean),
    )


def token_r2(predicted: FloatArray, actual: FloatArray, mean: FloatArray) -> float:
    """Return R² of all token features together, against the training videos' mean tokens; NaN if none varies."""
    total = float(np.square(actual.astype(np.float64) - mean).sum())
    return 1 - float(np.square(actual.astype(np.float64) - predicted).sum()) / total if total else float("nan")


def better(mlp: Projector, ridge: Projector, stopping: Material) -> Kind:
    """Return which projector predicts the stopping videos better: by R² of tokens, or by median rank without tokens."""
    if mlp.basis is not None and stopping.tokens is not None:
        errors = [float(np.square(one.tokens(stopping.embedding) - stopping.tokens).mean()) for one in (mlp, ridge)]
        return "mlp" if errors[0] < errors[1] else "ridge"

    found = [float(np.median(ranks(one.joint(stopping.embedding), stopping.language))) for one in (mlp, ridge)]
    return "mlp" if found[0] < found[1] else "ridge"


class Learned(NamedTuple):
    """Both projectors of one embedding, with their scores on the reported videos.

    `chosen` is the better one on the *stopping* videos, or the one that was asked for; `penalties` are those of the
    ridge, and `parts` the rows of the videos.
    """

    mlp: Projector
    ridge: Projector
    chosen: Kind
    scores: dict[Kind, Scores]
    trained: Trained
    penalties: dict[str, float]
    parts: Parts


def learn(
    every: Material,
    settings: TrainingSettings,
    rng: np.random.Generator,
    *,
    kind: Kind | None = None,
    held_out: float = 0.1,
    n_components: int = 512,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> Learned:
    """Divide the videos, learn both projectors, choose one, and score both on the reported videos.

    Parameters
    ----------
    every : Material
        All videos.
    settings : TrainingSettings
        Of the perceptron.
    rng : numpy.random.Generator
        Source of the division, of the training and of the intervals.
    kind : {'mlp', 'ridge'}, optional
        The projector to use; None: the better one.
    held_out : float
        Share of the stopping and of the reported videos, each.
    n_components : int
        Largest number of principal components of the tokens.
    device, on_epoch
        See :func:`affectlake.editing.network.train`.

    Raises
    ------
    SourceError
        If there are too few videos, arrays do not have one row per video, or the image features are of another space.
    """
    _refuse_unequal(every)
    division, training_rng, intervals = rng.spawn(3)
    parts = divide(len(every.embedding), held_out, division)
    training, stopping, reported = (every.rows(rows) for rows in parts)
    basis = basis_of(training, n_components)
    ridge, penalties = fit_ridge(training, stopping, basis)
    mlp, trained = fit_mlp(training, stopping, basis, settings, training_rng, device, on_epoch)
    scores: dict[Kind, Scores] = {"mlp": score(mlp, reported, intervals), "ridge": score(ridge, reported, intervals)}
    return Learned(mlp, ridge, kind or better(mlp, ridge, stopping), scores, trained, penalties, parts)


def _refuse_unequal(every: Material) -> None:
    n = len(every.embedding)
    for name, value in every._asdict().items():
        if value is not None and len(value) != n:
            raise SourceError(f"{name} does not have one row per video", wanted=f"{n} rows", found=f"{len(value)}")
    if every.vision is not None and every.vision.shape != every.language.shape:
        raise SourceError(
            "image and text features are not of one space",
            wanted=f"{every.language.shape[1]} features, as the captions have",
            found=f"{every.vision.shape[1]} of the frames",
            todo="choose a dual encoder such as CLIP, or leave the image features out",
        )
    for name in ("embedding", "language", "vision", "tokens"):
        value = getattr(every, name)
        if value is not None and not np.isfinite(value).all():
            raise SourceError(f"{name} has values that are not finite")
