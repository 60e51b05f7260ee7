"""Motion energy of clips: quadrature pairs of Gabor filters in space and time (Adelson & Bergen 1985).

The filters are those of models of visual cortex for natural movies (Nishimoto et al. 2011), with fewer channels, each
averaged over the picture and over time. Decoding does not belong here: :mod:`affectlake.stimuli.whole_clips`.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE_PIXELS = 64
"""Side of the square to which frames are resized."""

SAMPLES_PER_S = 15
"""Samples of a clip per second."""

SPATIAL_CYCLES = (2, 4, 8)
"""Spatial frequencies, cycles per side of the picture."""

TEMPORAL_HZ = (2, 4)
"""Temporal frequencies, Hz."""

ENVELOPE_CYCLES = 0.4
"""Standard deviation of the Gaussians in space and time, in cycles: 1.5 octaves wide at half the amplitude."""

REACH_SAMPLES = 7
"""Samples before and after the middle of a filter."""

N_SAMPLES = 2 * REACH_SAMPLES + 1
"""Fewest samples of a clip that has a motion energy: those of one filter, which last one second."""

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]


class Channel(NamedTuple):
    """A channel: spatial frequency in cycles per side, temporal frequency in Hz, and direction of motion."""

    spatial_cycles: int
    temporal_hz: int
    motion_direction: str


_ALONG = {"horizontal": ("right", "left"), "vertical": ("down", "up")}

CHANNELS = tuple(
    Channel(cycles, hz, direction)
    for cycles, along, hz in product(SPATIAL_CYCLES, _ALONG, TEMPORAL_HZ)
    for direction in _ALONG[along]
)
"""The channels, in the order of the energies."""


def motion_energies(luma: NDArray[np.floating]) -> Floats:
    """Return the motion energy of a clip in each channel, averaged over space and time.

    Parameters
    ----------
    luma : float (n_samples, SIDE_PIXELS, SIDE_PIXELS)
        Luma of the clip, 0 to 255, at `SAMPLES_PER_S`; rows from top to bottom.

    Returns
    -------
    float64 (24,)
        For each of `CHANNELS`, the mean of log(1 + E) over the positions and times of its filters, where E is the
        energy in squared units of luma. A grating that drifts in the direction, at the frequencies and with the
        amplitude A has E = A² in the middle of the picture. NaN if there are fewer than `N_SAMPLES` samples.

    Notes
    -----
    The filter of a channel is the product of a Gaussian and of exp(2πi (f x - g t)), with x in the direction of motion,
    the spatial frequency f and the temporal frequency g: its real and imaginary part are a quadrature pair, and E is
    the sum of their squared responses (Adelson & Bergen 1985). It is separable, so that the response is computed along
    rows, along columns, and in time. Along x and t, the filter's mean is zero at each position, so that the brightness
    of a picture and what does not move have no energy. Filters are half a cycle apart; those at the borders are cut.
    In time, only complete filters count.
    """
    if len(luma) < N_SAMPLES:
        return np.full(len(CHANNELS), np.nan)
    found = []
    frames = np.asarray(luma, dtype=np.float64)
    for cycles, along in product(SPATIAL_CYCLES, _ALONG):
        response = _in_space(frames if along == "horizontal" else frames.transpose(0, 2, 1), cycles)
        for hz in TEMPORAL_HZ:
            filters = _in_time(hz)
            found += [_mean_energy(response, filters), _mean_energy(response, filters.conj())]
    return np.array(found)


def _in_space(frames: Floats, cycles: int) -> Complex:
    """Return the responses along the last axis of the frames: (n_samples, n_positions)."""
    places = (np.arange(2 * cycles) + 0.5) / (2 * cycles)
    away = (np.arange(SIDE_PIXELS) + 0.5) / SIDE_PIXELS - places[:, None]
    window = np.exp(-((away * cycles / ENVELOPE_CYCLES) ** 2) / 2)
    window /= window.sum(axis=1, keepdims=True)
    gabor = _gabor(window, away * cycles)
    smooth = window @ frames  # (n_samples, n_positions, SIDE_PIXELS)
    return (smooth @ gabor.real.T + 1j * (smooth @ gabor.imag.T)).reshape(len(frames), -1)


def _in_time(hz: int) -> Complex:
    """Return the filter in time for motion in the direction of the axis: (N_SAMPLES,)."""
    away = np.arange(-REACH_SAMPLES, REACH_SAMPLES + 1) / SAMPLES_PER_S
    window = np.exp(-((away * hz / ENVELOPE_CYCLES) ** 2) / 2)
    return _gabor(window[None] / window.sum(), -away[None] * hz).reshape(-1)


def _gabor(window: Floats, cycles: Floats) -> Complex:
    """Return windows times a carrier, with a mean of zero and a gain of one: (n_filters, n_points)."""
    carrier = np.exp(-2j * np.pi * cycles)
    gabor = window * (carrier - (window * carrier).sum(axis=1, keepdims=True))
    return np.asarray(gabor / np.abs((gabor * carrier.conj()).sum(axis=1, keepdims=True)))


def _mean_energy(response: Complex, filters: Complex) -> float:
    n = len(response) - N_SAMPLES + 1
    amplitude = np.zeros((n, response.shape[1]), dtype=np.complex128)
    for at, weight in enumerate(filters):
        amplitude += weight * response[at : at + n]
    energy = 4 * np.abs(amplitude) ** 2  # a real grating has half of its amplitude in each direction of the carrier
    return float(np.log1p(energy).mean())
