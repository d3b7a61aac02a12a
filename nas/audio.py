"""The keyword-spotting front end: one second of sound to 49 x 10 MFCCs, as MLPerf Tiny's model takes."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

RATE = 16000
FRAME = 640  # 40 ms
STEP = 320  # 20 ms
FRAMES = 1 + (RATE - FRAME) // STEP  # 49
COEFFICIENTS = 10
MELS = 40
LOW, HIGH = 20.0, 4000.0
FFT = 1024
TIME = (0,)  # the axis of MFCCs [49, 10, 1] along which a sound may be moved

Array = npt.NDArray[np.float64]


def mel(hertz: float) -> float:
    """The mel scale (HTK's)."""
    return float(1127.0 * np.log1p(hertz / 700.0))


@cache
def filters() -> Array:
    """Triangular mel filters over the power spectrum, [MELS, FFT/2+1]."""
    points = 700.0 * np.expm1(np.linspace(mel(LOW), mel(HIGH), MELS + 2) / 1127.0)
    bins = np.arange(FFT // 2 + 1) * RATE / FFT
    rising = (bins - points[:-2, None]) / (points[1:-1] - points[:-2])[:, None]
    falling = (points[2:, None] - bins) / (points[2:] - points[1:-1])[:, None]
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None), np.float64)


@cache
def cosines() -> Array:
    """The first rows of the discrete cosine transform, [COEFFICIENTS, MELS]."""
    place = np.pi * (np.arange(MELS) + 0.5) / MELS
    return np.asarray(np.cos(np.outer(np.arange(COEFFICIENTS), place)) * np.sqrt(2.0 / MELS), np.float64)


def mfcc(sound: npt.NDArray[np.floating]) -> Array:
    """MFCCs [49, 10] of one second of sound [16000] in [-1, 1], squashed into [-1, 1]."""
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(sound, np.float64), FRAME)[::STEP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    power = np.abs(np.fft.rfft(frames * window, FFT)) ** 2
    # Sums too short for BLAS: its threads would cost more than they save.
    logs = np.log(np.einsum("fb,mb->fm", power, filters()) + 1e-6)
    return np.asarray(np.tanh(logs @ cosines().T / 40.0), np.float64)
