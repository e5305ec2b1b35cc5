"""A user's own examples in a folder: pictures, sound, arrays, texts and numbers, and the manifest that lists them."""

import csv
import json
from pathlib import Path

import numpy as np

CLASSES = ("cat", "dog", "fish", "owl")
HEADER = ("photo", "sound", "series", "caption", "imu.x", "imu.y", "label")


def picture(path: Path, shade: int, *, size=(12, 9), mode="RGB", **save) -> Path:
    from PIL import Image

    Image.new(mode, size, shade if mode in ("L", "I", "I;16", "F") else (shade, shade // 2, 0)).save(path, **save)
    return path


def sound(path: Path, pitch: int, *, rate=8000, seconds=0.1) -> Path:
    from scipy.io import wavfile

    wave = np.sin(np.arange(int(rate * seconds)) * 0.05 * (pitch + 1)) * 20_000
    wavfile.write(path, rate, wave.astype(np.int16))
    return path


def examples(folder: Path, n: int = 40) -> list[dict]:
    """n rows of four classes, their files written to ``folder``; every seventh row has no picture."""
    random, rows = np.random.default_rng(0), []
    for i in range(n):
        label = i % 4
        np.save(folder / f"s{i}.npy", random.normal(size=(3, 5)).astype(np.float32) + label)
        rows.append(
            {
                "photo": picture(folder / f"p{i}.png", 60 * label).name if i % 7 else "",
                "sound": sound(folder / f"w{i}.wav", label).name,
                "series": f"s{i}.npy",
                "caption": f"picture of a {CLASSES[label]}, no {i}",
                "imu.x": 0.5 * i,
                "imu.y": 100 - i,
                "label": CLASSES[label],
            }
        )
    return rows


def write_csv(path: Path, rows: list[dict], **extra) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), **extra)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, content) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
