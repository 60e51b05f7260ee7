"""Compiled kernels of SPoSE: similarities and softmax of sixteen triplets at once, gradients, and lazy Adam.

Which triplets to train on and when to stop do not belong here (`fitting`). Vector operations and the functions that use
them are in one file because Numba's cache checks only the file of the function that it compiled: in two files, after a
change to the first, the old machine code of the second would remain in use.

Rows are float32, padded with zero columns to a multiple of `LANES` and aligned to 64 bytes, so that a row of 30
dimensions is two full AVX-512 registers (LLVM splits them if registers are narrower). See `affectlake.spose.state` for
lazy steps and the terms of `_settle_row`.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from affectlake.process.compiled import njit
from affectlake.spose.state import LANES, Rule, State

_CHUNK = 64  # triplets whose rows stay in the L1 cache between similarities and gradients
_AHEAD = 2  # rows between prefetching a row and settling it
_VANISHING = 60.0  # difference of similarities that leaves the smaller one a share of 1e-26, lost in float32

_COMPILE: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}

_FAST = ("fast",)
_f32 = ir.FloatType()
_i32 = ir.IntType(32)
_i64 = ir.IntType(64)
_vector = ir.VectorType(_f32, LANES)
_vector_i32 = ir.VectorType(_i32, LANES)
# 2**f on [-0.5, 0.5], highest power first: Taylor's coefficients ln(2)**i / i! adjusted to a minimax error of 1e-7.
_EXP2 = (1.535336188e-4, 1.339887440e-3, 9.618437357e-3, 5.550332471e-2, 2.402264791e-1, 6.931472028e-1, 1.0)


# ---- LLVM vectors inside Numba: `b` is the instruction builder ----------------------------------------------------


def _splat(b: Any, scalar: Any) -> Any:
    single = b.insert_element(ir.Constant(_vector, ir.Undefined), scalar, _i32(0))
    return b.shuffle_vector(single, ir.Constant(_vector, ir.Undefined), ir.Constant(_vector_i32, [0] * LANES))


def _constant(value: float) -> Any:
    return ir.Constant(_vector, [value] * LANES)


def _load(b: Any, row: Any, column: Any) -> Any:
    return b.load(b.bitcast(b.gep(row, [column]), _vector.as_pointer()), align=4)


def _store(b: Any, value: Any, row: Any, column: Any) -> None:
    b.store(value, b.bitcast(b.gep(row, [column]), _vector.as_pointer()), align=4)


def _add(b: Any, x: Any, y: Any) -> Any:
    return b.fadd(x, y, flags=_FAST)


def _sub(b: Any, x: Any, y: Any) -> Any:
    return b.fsub(x, y, flags=_FAST)


def _mul(b: Any, x: Any, y: Any) -> Any:
    return b.fmul(x, y, flags=_FAST)


def _fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    return _add(b, _mul(b, x, y), z)


def _max(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, y, flags=_FAST), x, y)


def _call(b: Any, name: str, result: Any, args: list[Any]) -> Any:
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(function, args, fastmath=_FAST)


def _exp(b: Any, x: Any) -> Any:
    """Return exp(x) of a vector of non-positive numbers; about 1e-38 for x below -87."""
    z = _max(b, _mul(b, x, _constant(1.0 / math.log(2.0))), _constant(-126.0))
    whole = _call(b, f"llvm.nearbyint.v{LANES}f32", _vector, [z])
    exponent = b.add(b.fptosi(whole, _vector_i32), ir.Constant(_vector_i32, [127] * LANES))
    scale = b.bitcast(b.shl(exponent, ir.Constant(_vector_i32, [23] * LANES)), _vector)
    fraction, power = _sub(b, z, whole), _constant(_EXP2[0])
    for coefficient in _EXP2[1:]:
        power = _fma(b, power, fraction, _constant(coefficient))
    return _mul(b, power, scale)


def _array(context: Any, b: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """Return the data pointer and the number of columns of a C-contiguous 2-D array."""
    array = context.make_array(kind)(context, b, value)
    return array.data, b.extract_value(array.shape, 1)


def _for_columns(b: Any, width: Any, body: Callable[[Any], None]) -> None:
    """Emit `body(column)` for each register of a row, without a loop in the usual case of two registers."""
    with b.if_else(b.icmp_signed("==", width, _i64(2 * LANES)), likely=True) as (two, other):
        with two:
            body(_i64(0))
            body(_i64(LANES))
        with other, cgutils.for_range_slice(b, _i64(0), width, _i64(LANES)) as (column, _):
            body(column)


def _products(pairs: tuple[tuple[int, int], ...]) -> Any:
    """Return an intrinsic for the inner products of these pairs among the rows i, j, k of a matrix."""

    @intrinsic
    def products(_typing: Any, x: Any, i: Any, j: Any, k: Any) -> Any:
        signature = types.UniTuple(types.float32, len(pairs))(x, types.intp, types.intp, types.intp)

        def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
            data, width = _array(context, b, sig.args[0], args[0])
            rows = [b.gep(data, [b.mul(index, width)]) for index in args[1:]]
            sums = [cgutils.alloca_once_value(b, _constant(0.0)) for _ in pairs]

            def body(column: Any) -> None:
                loaded = [_load(b, row, column) for row in rows]
                for total, (left, right) in zip(sums, pairs, strict=True):
                    b.store(_fma(b, loaded[left], loaded[right], b.load(total)), total)

            _for_columns(b, width, body)
            reduce = f"llvm.vector.reduce.fadd.v{LANES}f32"
            values = [_call(b, reduce, _f32, [_f32(0.0), b.load(total)]) for total in sums]
            return context.make_tuple(b, sig.return_type, values)

        return signature, generate

    return products


_pair_products = _products(((0, 1), (0, 2), (1, 2)))
_head_products = _products(((0, 1), (0, 2)))


@intrinsic
def _softmax_lanes(_typing: Any, similarities: Any, first: Any, scale: Any) -> Any:
    """Turn similarities (3, …) of `LANES` triplets from `first` into probabilities times `scale`, in place.

    Returns sum(largest - first row) and the product of the sums of exponentials. Their cross-entropy with the first row
    is the former plus the logarithm of the latter (at most 3**LANES, so that one logarithm is enough for all).
    """
    signature = types.UniTuple(types.float32, 2)(similarities, types.intp, types.float32)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        data, width = _array(context, b, sig.args[0], args[0])
        columns = [b.add(args[1], b.mul(width, _i64(r))) for r in range(3)]
        ij, ik, jk = (_load(b, data, column) for column in columns)
        largest = _max(b, ij, _max(b, ik, jk))
        powers = [_exp(b, _sub(b, s, largest)) for s in (ij, ik, jk)]
        total = _add(b, _add(b, powers[0], powers[1]), powers[2])
        share = b.fdiv(_splat(b, args[2]), total, flags=_FAST)
        for power, column in zip(powers, columns, strict=True):
            _store(b, _mul(b, power, share), data, column)
        short = _call(b, f"llvm.vector.reduce.fadd.v{LANES}f32", _f32, [_f32(0.0), _sub(b, largest, ij)])
        product = _call(b, f"llvm.vector.reduce.fmul.v{LANES}f32", _f32, [_f32(1.0), total])
        return context.make_tuple(b, sig.return_type, [short, product])

    return signature, generate


@intrinsic
def _add_gradients(_typing: Any, x: Any, g: Any, i: Any, j: Any, k: Any, ik: Any, jk: Any) -> Any:
    """Add a triplet's gradient to rows i, j, k of `g`; `ik` and `jk` are the probabilities of the wrong pairs.

    With e = -(ik + jk) the derivatives by the three similarities are (e, ik, jk), so that row i gets
    e x_j + ik x_k, row j gets e x_i + jk x_k and row k gets ik x_i + jk x_j.
    """
    signature = types.void(x, g, types.intp, types.intp, types.intp, types.float32, types.float32)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        data, width = _array(context, b, sig.args[0], args[0])
        sums, _ = _array(context, b, sig.args[1], args[1])
        starts = [b.mul(index, width) for index in args[2:5]]
        ik, jk = (_splat(b, share) for share in args[5:])
        e = _sub(b, _constant(0.0), _add(b, ik, jk))

        def body(column: Any) -> None:
            xi, xj, xk = (_load(b, b.gep(data, [start]), column) for start in starts)
            terms = (((e, xj), (ik, xk)), ((e, xi), (jk, xk)), ((ik, xi), (jk, xj)))
            for start, ((s, p), (t, q)) in zip(starts, terms, strict=True):
                row = b.gep(sums, [start])
                _store(b, _fma(b, s, p, _fma(b, t, q, _load(b, row, column))), row, column)

        _for_columns(b, width, body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _add_head_gradients(_typing: Any, x: Any, g: Any, h: Any, i: Any, j: Any, hj: Any) -> Any:
    """Add the gradient of an anchored triplet to rows h, i, j of `g`; `hj` is the probability of the wrong answer j.

    The derivatives by the similarities of h with i and j are -hj and hj: row h gets hj (x_j - x_i), row i gets -hj x_h
    and row j gets hj x_h.
    """
    signature = types.void(x, g, types.intp, types.intp, types.intp, types.float32)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        data, width = _array(context, b, sig.args[0], args[0])
        sums, _ = _array(context, b, sig.args[1], args[1])
        starts = [b.mul(index, width) for index in args[2:5]]
        share = _splat(b, args[5])

        def body(column: Any) -> None:
            xh, xi, xj = (_load(b, b.gep(data, [start]), column) for start in starts)
            rows = [b.gep(sums, [start]) for start in starts]
            step = _mul(b, share, xh)
            _store(b, _fma(b, share, _sub(b, xj, xi), _load(b, rows[0], column)), rows[0], column)
            _store(b, _sub(b, _load(b, rows[1], column), step), rows[1], column)
            _store(b, _add(b, _load(b, rows[2], column), step), rows[2], column)

        _for_columns(b, width, body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _settle_row(_typing: Any, x: Any, m: Any, v: Any, g: Any, row: Any, table: Any, gap: Any, constants: Any) -> Any:
    """Take one Adam step with the row's gradient and `gap` steps without (`affectlake.spose.state`); zero the gradient.

    `constants` are b1, b2, 1 - b1, -b1 c, sqrt(1 - b2), sqrt(1 - b2) c, c, eps and step size (bias-corrected).
    """
    signature = types.void(x, m, v, g, types.intp, table, types.intp, types.UniTuple(types.float32, 9))

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        arrays = [_array(context, b, kind, value) for kind, value in zip(sig.args[:4], args[:4], strict=True)]
        width = arrays[0][1]
        rows = [b.gep(data, [b.mul(args[4], width)]) for data, _ in arrays]
        terms, n_terms = _array(context, b, sig.args[5], args[5])
        first = b.mul(args[6], n_terms)
        a_k, b_k, b1_k, b2_k, v_k = (_splat(b, b.load(b.gep(terms, [b.add(first, _i64(t))]))) for t in range(5))
        b1, b2, p1, n1, p2, q2, c, eps, rate = (_splat(b, scalar) for scalar in cgutils.unpack_tuple(b, args[7]))
        zero = _constant(0.0)

        def body(column: Any) -> None:
            x, m, v, g = (_load(b, row, column) for row in rows)
            excess = _fma(b, b1, m, _fma(b, p1, g, n1))  # m - c, after this step
            root_g = _fma(b, p2, g, q2)
            v = _fma(b, b2, v, _mul(b, root_g, root_g))
            root = _call(b, f"llvm.sqrt.v{LANES}f32", _vector, [v])
            update = b.fdiv(_fma(b, excess, b_k, a_k), _add(b, root, eps), flags=_FAST)
            _store(b, _max(b, _sub(b, x, _mul(b, rate, update)), zero), rows[0], column)
            _store(b, _fma(b, excess, b1_k, c), rows[1], column)
            _store(b, _fma(b, v, b2_k, v_k), rows[2], column)
            _store(b, zero, rows[3], column)

        _for_columns(b, width, body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _prefetch(_typing: Any, array: Any, row: Any, n_bytes: Any) -> Any:
    """Prefetch `n_bytes` (a literal) of a 2-D array from the start of `row`."""
    if not isinstance(n_bytes, types.IntegerLiteral):
        return None
    signature = types.void(array, types.intp, n_bytes)

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _i32, _i32, _i32])
        function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0i8")
        data, width = _array(context, b, sig.args[0], args[0])
        start = b.bitcast(b.gep(data, [b.mul(args[1], width)]), byte)
        for offset in range(0, sig.args[2].literal_value, 64):
            b.call(function, [b.gep(start, [_i64(offset)]), _i32(0), _i32(3), _i32(1)])
        return context.get_dummy_value()

    return signature, generate


# ---- functions compiled by Numba -------------------------------------------------------------------------------------


@njit(**_COMPILE)
def _similarities(x: Any, triplets: Any, first: int, n: int, out: Any) -> None:
    """Write the similarities of `n` triplets from row `first` to `out` (3, _CHUNK); unused lanes have probability 1."""
    for t in range(n):
        row = triplets[first + t]
        out[0, t], out[1, t], out[2, t] = _pair_products(x, np.intp(row[0]), np.intp(row[1]), np.intp(row[2]))
    for t in range(n, (n + LANES - 1) // LANES * LANES):
        out[0, t] = 0.0
        out[1, t] = out[2, t] = -1000.0


@njit(**_COMPILE)
def _head_similarities(x: Any, triplets: Any, first: int, n: int, out: Any) -> None:
    """Write the similarities of `n` anchored triplets from row `first` to `out` (3, _CHUNK).

    The third row is so far below the others that the softmax of the three is that of two. Unused lanes have
    probability 1.
    """
    for t in range(n):
        row = triplets[first + t]
        hi, hj = _head_products(x, np.intp(row[0]), np.intp(row[1]), np.intp(row[2]))
        out[0, t], out[1, t], out[2, t] = hi, hj, max(hi, hj) - np.float32(_VANISHING)
    for t in range(n, (n + LANES - 1) // LANES * LANES):
        out[0, t] = 0.0
        out[1, t] = out[2, t] = -1000.0


@njit(**_COMPILE)
def _softmax(similarities: Any, n: int, scale: float) -> float:
    """Turn the similarities of `n` triplets into probabilities times `scale`; return their summed cross-entropy."""
    loss = 0.0
    for first in range(0, n, LANES):
        short, product = _softmax_lanes(similarities, first, np.float32(scale))
        loss += short + math.log(product)
    return loss


@njit(**_COMPILE)
def _lapsing(shares: Any, n: int, scale: float, lapse: float, guessed: float) -> tuple[float, float]:
    """Weight the shares of wrong pairs (probabilities times `scale`) by the probability of no lapse.

    `guessed` is the probability that the answer was given by chance: the lapse rate by the number of answers.

    Returns the summed cross-entropy (nats) and the expected number of judgments made by chance.
    """
    loss = by_chance = 0.0
    for t in range(n):
        meant = (1.0 - lapse) * shares[0, t] / scale
        said = meant + guessed
        shares[1, t] *= meant / said
        shares[2, t] *= meant / said
        loss -= math.log(said)
        by_chance += 1.0 - meant / said
    return loss, by_chance


@njit(**_COMPILE)
def score(x: NDArray[np.float32], triplets: NDArray[np.int32], lapse: float) -> tuple[float, float, float]:
    """Return the summed cross-entropy (nats), the number of right predictions, and the expected number of lapses.

    A prediction is right if the first pair is the most similar; a tie with one or two other pairs counts as 1/2 or 1/3.
    Lapses are the judgments made by chance of an agent with the lapse rate `lapse`.
    """
    similarities = np.empty((3, _CHUNK), np.float32)
    loss = right = by_chance = 0.0
    for first in range(0, triplets.shape[0], _CHUNK):
        n = min(_CHUNK, triplets.shape[0] - first)
        _similarities(x, triplets, first, n, similarities)
        for t in range(n):
            ij, ik, jk = similarities[0, t], similarities[1, t], similarities[2, t]
            if ij >= ik and ij >= jk:
                right += 1.0 / (1 + (ij == ik) + (ij == jk))
        added, chance = _softmax(similarities, n, 1.0), 0.0
        if lapse > 0.0:
            added, chance = _lapsing(similarities, n, 1.0, lapse, lapse / 3.0)
        loss += added
        by_chance += chance
    return loss, right, by_chance


# Functions of anchored triplets have loops of their own: a branch inside those of odd-one-out judgments changes the
# order in which LLVM adds, and with it the last bits of every fit.


@njit(**_COMPILE)
def score_anchored(x: NDArray[np.float32], triplets: NDArray[np.int32], lapse: float) -> tuple[float, float, float]:
    """Return what :func:`score` returns, of anchored triplets (head, winner, loser)."""
    similarities = np.empty((3, _CHUNK), np.float32)
    loss = right = by_chance = 0.0
    for first in range(0, triplets.shape[0], _CHUNK):
        n = min(_CHUNK, triplets.shape[0] - first)
        _head_similarities(x, triplets, first, n, similarities)
        for t in range(n):
            hi, hj = similarities[0, t], similarities[1, t]
            if hi >= hj:
                right += 1.0 / (1 + (hi == hj))
        added, chance = _softmax(similarities, n, 1.0), 0.0
        if lapse > 0.0:
            added, chance = _lapsing(similarities, n, 1.0, lapse, lapse / 2.0)
        loss += added
        by_chance += chance
    return loss, right, by_chance


@njit(**_COMPILE)
def probabilities(x: NDArray[np.float32], triplets: NDArray[np.int32], out: NDArray[np.float32]) -> None:
    """Write to `out` (m, 3) the probability that the stimulus in each column of `triplets` is the odd one out."""
    chunk = np.empty((3, _CHUNK), np.float32)
    for first in range(0, triplets.shape[0], _CHUNK):
        n = min(_CHUNK, triplets.shape[0] - first)
        _similarities(x, triplets, first, n, chunk)
        _softmax(chunk, n, 1.0)
        for t in range(n):
            out[first + t, 2], out[first + t, 1], out[first + t, 0] = chunk[0, t], chunk[1, t], chunk[2, t]


@njit(**_COMPILE)
def head_probabilities(x: NDArray[np.float32], triplets: NDArray[np.int32], out: NDArray[np.float32]) -> None:
    """Write to `out` (m, 2) the probabilities that the second and the third stimulus of a triplet are chosen."""
    chunk = np.empty((3, _CHUNK), np.float32)
    for first in range(0, triplets.shape[0], _CHUNK):
        n = min(_CHUNK, triplets.shape[0] - first)
        _head_similarities(x, triplets, first, n, chunk)
        _softmax(chunk, n, 1.0)
        for t in range(n):
            out[first + t, 0], out[first + t, 1] = chunk[0, t], chunk[1, t]


@njit(**_COMPILE)
def information(members: Any, triplets: Any, lapse: float, out: Any) -> None:
    """Write to `out` (m,) the entropy of the mean probabilities of `members` (s, n, width) minus their mean entropy."""
    n_members = members.shape[0]
    shares = np.empty((n_members, 3, _CHUNK), np.float32)
    for first in range(0, triplets.shape[0], _CHUNK):
        n = min(_CHUNK, triplets.shape[0] - first)
        for s in range(n_members):
            _similarities(members[s], triplets, first, n, shares[s])
            _softmax(shares[s], n, 1.0)
        for t in range(n):
            difference = 0.0
            for r in range(3):
                total = 0.0
                for s in range(n_members):
                    share = (1.0 - lapse) * shares[s, r, t] + lapse / 3.0
                    total += share
                    difference += share * math.log(max(share, 1e-30))
                difference -= total * math.log(max(total / n_members, 1e-30))
            out[first + t] = max(difference / n_members, 0.0)


@njit(**_COMPILE)
def add_gradients(x: Any, triplets: Any, first: int, n: int, scale: float, lapse: float, gradient: Any) -> float:
    """Add the gradient of the cross-entropy of `n` triplets, times `scale`, to `gradient`; return their summed loss."""
    shares = np.empty((3, _CHUNK), np.float32)
    loss = 0.0
    for start in range(first, first + n, _CHUNK):
        size = min(_CHUNK, first + n - start)
        _similarities(x, triplets, start, size, shares)
        added = _softmax(shares, size, scale)
        if lapse > 0.0:
            added, _ = _lapsing(shares, size, scale, lapse, lapse / 3.0)
        loss += added
        for t in range(size):
            row = triplets[start + t]
            i, j, k = np.intp(row[0]), np.intp(row[1]), np.intp(row[2])
            _add_gradients(x, gradient, i, j, k, shares[1, t], shares[2, t])
    return loss


@njit(**_COMPILE)
def add_anchored_gradients(
    x: Any, triplets: Any, first: int, n: int, scale: float, lapse: float, gradient: Any
) -> float:
    """Do what :func:`add_gradients` does, with anchored triplets (head, winner, loser)."""
    shares = np.empty((3, _CHUNK), np.float32)
    loss = 0.0
    for start in range(first, first + n, _CHUNK):
        size = min(_CHUNK, first + n - start)
        _head_similarities(x, triplets, start, size, shares)
        added = _softmax(shares, size, scale)
        if lapse > 0.0:
            added, _ = _lapsing(shares, size, scale, lapse, lapse / 2.0)
        loss += added
        for t in range(size):
            row = triplets[start + t]
            h, i, j = np.intp(row[0]), np.intp(row[1]), np.intp(row[2])
            _add_head_gradients(x, gradient, h, i, j, shares[1, t])
    return loss


@njit(**_COMPILE)
def _excess(similarities: Any, targets: Any, first: int, n: int) -> float:
    """Return by how much the first similarities of `n` triplets exceed the means under `targets`, summed."""
    total = 0.0
    for t in range(n):
        ij, ik, jk = similarities[0, t], similarities[1, t], similarities[2, t]
        total += targets[first + t, 1] * (ij - ik) + targets[first + t, 0] * (ij - jk)
    return total


@njit(**_COMPILE)
def _weigh_targets(shares: Any, targets: Any, first: int, n: int, scale: float) -> None:
    """Turn probabilities times `scale` of `n` triplets into the derivatives of the loss by the similarities."""
    for t in range(n):
        shares[1, t] -= scale * targets[first + t, 1]
        shares[2, t] -= scale * targets[first + t, 0]


@njit(**_COMPILE)
def _weigh_lapsing_targets(shares: Any, targets: Any, first: int, n: int, scale: float, lapse: float) -> float:
    """Do what :func:`_weigh_targets` does with a lapse rate, and return the summed cross-entropy (nats)."""
    loss = 0.0
    for t in range(n):
        ij, wij = _meant(shares[0, t] / scale, targets[first + t, 2], lapse)
        ik, wik = _meant(shares[1, t] / scale, targets[first + t, 1], lapse)
        jk, wjk = _meant(shares[2, t] / scale, targets[first + t, 0], lapse)
        loss += ij + ik + jk
        total = wij + wik + wjk
        shares[1, t] = total * shares[1, t] - scale * wik
        shares[2, t] = total * shares[2, t] - scale * wjk
    return loss


@njit(**_COMPILE)
def _meant(share: float, target: float, lapse: float) -> tuple[float, float]:
    """Return a member's part of the cross-entropy, and `target` times the probability of no lapse."""
    meant = (1.0 - lapse) * share
    said = meant + lapse / 3.0
    return -target * math.log(said), target * meant / said


@njit(**_COMPILE)
def add_soft_gradients(
    x: Any, triplets: Any, targets: Any, first: int, n: int, scale: float, lapse: float, gradient: Any
) -> float:
    """Do what :func:`add_gradients` does, with the probability that each column of a triplet is the odd one out.

    The loss of a triplet is the cross-entropy with `targets`; those of a row sum to 1.
    """
    shares = np.empty((3, _CHUNK), np.float32)
    loss = 0.0
    for start in range(first, first + n, _CHUNK):
        size = min(_CHUNK, first + n - start)
        _similarities(x, triplets, start, size, shares)
        added = _excess(shares, targets, start, size) + _softmax(shares, size, scale)
        if lapse > 0.0:
            added = _weigh_lapsing_targets(shares, targets, start, size, scale, lapse)
        else:
            _weigh_targets(shares, targets, start, size, scale)
        loss += added
        for t in range(size):
            row = triplets[start + t]
            i, j, k = np.intp(row[0]), np.intp(row[1]), np.intp(row[2])
            _add_gradients(x, gradient, i, j, k, shares[1, t], shares[2, t])
    return loss


@njit(**_COMPILE)
def _settle(state: State, rows: Any, n_rows: int, step: int, rule: Rule, table: Any) -> None:
    """Advance the first `n_rows` of `rows` to `step`."""
    x, m, v, g, settled = state
    f, b1, b2, c = np.float32, rule.beta1, rule.beta2, rule.l1_gradient
    bias, p2 = math.sqrt(1.0 - b2**step), math.sqrt(1.0 - b2)
    rate, eps = rule.learning_rate * bias / (1.0 - b1**step), rule.epsilon * bias
    constants = (f(b1), f(b2), f(1.0 - b1), f(-b1 * c), f(p2), f(p2 * c), f(c), f(eps), f(rate))
    for r in range(n_rows):
        ahead = np.intp(rows[min(r + _AHEAD, n_rows - 1)])
        for array in (x, m, v, g):
            _prefetch(array, ahead, 128)
        row = rows[r]
        due = step - settled[row]
        settled[row] = step
        while due > 0:
            gap = min(due, table.shape[0]) - 1
            _settle_row(x, m, v, g, np.intp(row), table, np.intp(gap), constants)
            due -= gap + 1


@njit(**_COMPILE)
def _behind(triplets: Any, blocks: Any, block_size: int, step: int, settled: Any, marked: Any, rows: Any) -> int:
    """Write each row of the blocks' triplets that has not reached `step` to `rows` once; return their number."""
    n_rows, last = 0, blocks.shape[0] - 1
    for b in range(blocks.shape[0]):
        _prefetch(triplets, np.intp(blocks[min(b + _AHEAD, last)] * block_size), 192)
        first = blocks[b] * block_size
        for t in range(first, min(first + block_size, triplets.shape[0])):
            for column in range(3):  # without a branch, because mispredictions cost more than the writes
                row = triplets[t, column]
                rows[n_rows] = row
                n_rows += (settled[row] < step) & (marked[row] < step)
                marked[row] = step
    return n_rows


@njit(**_COMPILE)
def train_epoch(
    state: State,
    triplets: NDArray[np.int32],
    order: NDArray[np.int32],
    step: int,
    rule: Rule,
    table: Any,
    targets: NDArray[np.float32] | None = None,
) -> tuple[float, int, int]:
    """Train on every triplet once, block by block in `order`, and settle every row.

    Parameters
    ----------
    state : State
        Modified in place.
    triplets : (m, 3) int32
        The two similar stimuli, then the odd one; of anchored triplets, head, winner and loser.
    order : (ceil(m / block_size),) int32
        A permutation of the blocks of `block_size` triplets; a batch is the next ``batch_size / block_size`` of them.
    step : int
        Number of steps taken before.
    rule : Rule
    table : (LONGEST_GAP, 5) float32
        From `gap_table`.
    targets : (m, 3) float32, optional
        Probability that the stimulus in each column of `triplets` is the odd one out; by default, it is the last one.

    Returns
    -------
    loss, n_triplets, step : float, int, int
        Summed cross-entropy, of each triplet under the weights before its batch; number of triplets; number of steps
        taken after.
    """
    x, n_stimuli, n_blocks = state.weights, state.weights.shape[0], rule.batch_size // rule.block_size
    everything, rows = np.arange(n_stimuli), np.empty(n_stimuli + 1, np.int64)
    marked = np.full(n_stimuli, -1)
    loss, n_triplets = 0.0, 0
    for batch in range(0, order.shape[0], n_blocks):
        blocks = order[batch : batch + n_blocks].astype(np.int64)
        if step >= rule.dense_until:
            n_rows = _behind(triplets, blocks, rule.block_size, step, state.settled, marked, rows)
            _settle(state, rows, n_rows, step, rule, table)
        n = np.minimum(rule.block_size, triplets.shape[0] - blocks * rule.block_size).sum()
        for block in blocks:
            first = block * rule.block_size
            size = min(rule.block_size, triplets.shape[0] - first)
            if targets is not None:  # decided when the function is compiled: without targets, its code is as before
                loss += add_soft_gradients(x, triplets, targets, first, size, 1.0 / n, rule.lapse, state.gradient)
            elif rule.anchored:
                loss += add_anchored_gradients(x, triplets, first, size, 1.0 / n, rule.lapse, state.gradient)
            else:
                loss += add_gradients(x, triplets, first, size, 1.0 / n, rule.lapse, state.gradient)
        n_triplets += n
        step += 1
        if step <= rule.dense_until:
            _settle(state, everything, n_stimuli, step, rule, table)
    _settle(state, everything, n_stimuli, step, rule, table)
    return loss, n_triplets, step
