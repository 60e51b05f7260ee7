"""Small pictures, clips and sounds that browsers can show."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def pictures(folder: Path, n: int, size: tuple[int, int] = (320, 240)) -> list[Path]:
    """Write `n` different JPEG files of different shapes."""
    found = []
    for at in range(n):
        width, height = (size[0], size[1] + 40 * (at % 3))
        y, x = np.mgrid[0:height, 0:width]
        colours = np.stack([x * (at + 1), y * 2, (x + y) * (at + 3) // 3], axis=-1) % 256
        found.append(folder / f"picture-{at}.jpg")
        Image.fromarray(colours.astype(np.uint8)).save(found[-1])
    return found


def clips(folder: Path, n: int, seconds: float = 1.0) -> list[Path]:
    """Write `n` different WebM files."""
    found = []
    for at in range(n):
        found.append(folder / f"clip-{at}.webm")
        with av.open(str(found[-1]), "w") as container:
            stream = container.add_stream("libvpx", rate=Fraction(10))
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for number in range(int(10 * seconds)):
                picture = np.full((120, 160, 3), (number * 20 + at * 40) % 256, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return found


def sounds(folder: Path, n: int, seconds: float = 0.3) -> list[Path]:
    """Write `n` different WAV files."""
    found = []
    for at in range(n):
        found.append(folder / f"sound-{at}.wav")
        time = np.arange(int(8000 * seconds)) / 8000
        with wave.open(str(found[-1]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes((3000 * np.sin(2 * np.pi * (200 + 50 * at) * time)).astype("<i2").tobytes())
    return found
