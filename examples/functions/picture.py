"""Renders a picture of mirroring spheres, a band of rows a task, and writes it as PNG. Needs numpy.

python picture.py spheres.png --width 640
"""

import argparse
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

import ripieno

Array = npt.NDArray[np.float64]

#: Centre, radius, colour of each sphere. They stand on a chequered floor at y = 0.
SPHERES = [
    ((-1.3, 1.0, 0.4), 1.0, (0.85, 0.25, 0.2)),
    ((0.9, 0.8, -0.6), 0.8, (0.2, 0.45, 0.85)),
    ((0.15, 0.35, -1.9), 0.35, (0.9, 0.75, 0.2)),
    ((-0.75, 0.25, -1.6), 0.25, (0.3, 0.75, 0.4)),
]
EYE = np.array([0.0, 1.4, -5.5])
LIGHT = np.array([0.5, 0.75, -0.45]) / np.linalg.norm([0.5, 0.75, -0.45])
MIRRORED, FAR = 0.3, 1e9


def nearest(origin: Array, ray: Array) -> tuple[Array, npt.NDArray[np.intp]]:
    """How far each ray goes, and what it meets: the number of a sphere, -1 for the floor, -2 for nothing."""
    falls = ray[:, 1] < 0
    far = np.where(falls, -origin[:, 1] / np.where(falls, ray[:, 1], -1.0), FAR)
    what = np.where(far < FAR, -1, -2)
    for number, (centre, radius, _) in enumerate(SPHERES):
        to_centre = np.array(centre) - origin
        along = (to_centre * ray).sum(axis=1)
        inside = radius**2 - (to_centre**2).sum(axis=1) + along**2
        hit = along - np.sqrt(np.maximum(inside, 0))
        closer = (inside > 0) & (hit > 1e-4) & (hit < far)
        far, what = np.where(closer, hit, far), np.where(closer, number, what)
    return far, what


def colours(origin: Array, ray: Array, depth: int) -> Array:
    """What each ray sees, as (rays, 3) from 0 to 1."""
    far, what = nearest(origin, ray)
    seen = (1 - np.clip(ray[:, 1:2], 0, 1)) * [0.75, 0.85, 0.95] + np.clip(ray[:, 1:2], 0, 1) * [0.25, 0.45, 0.8]
    for number in range(-1, len(SPHERES)):
        rays = np.flatnonzero(what == number)
        if not rays.size:
            continue
        point = origin[rays] + far[rays, None] * ray[rays]
        if number < 0:
            normal = np.broadcast_to([0.0, 1.0, 0.0], point.shape)
            dark = (np.floor(point[:, :1]) + np.floor(point[:, 2:])) % 2
            own = 0.25 + 0.6 * dark * np.ones(3)
        else:
            normal = (point - SPHERES[number][0]) / SPHERES[number][1]
            own = np.broadcast_to(SPHERES[number][2], point.shape)
        start = point + 1e-4 * normal
        lit = np.clip(normal @ LIGHT, 0, 1) * (nearest(start, np.broadcast_to(LIGHT, point.shape))[1] < 0)
        seen[rays] = own * (0.25 + 0.75 * lit[:, None])
        if depth:
            back = ray[rays] - 2 * (ray[rays] * normal).sum(axis=1, keepdims=True) * normal
            seen[rays] = (1 - MIRRORED) * seen[rays] + MIRRORED * colours(start, back, depth - 1)
    return seen


def band(rows: range, width: int, height: int) -> bytes:
    """Render some rows, as three bytes a pixel."""
    x, y = np.meshgrid(np.arange(width) - width / 2 + 0.5, height / 2 - np.array(rows) - 0.5)
    ray = np.stack([x, y - 0.12 * height, np.full(x.shape, 1.3 * height)], axis=-1).reshape(-1, 3)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    return (255 * np.sqrt(colours(np.broadcast_to(EYE, ray.shape), ray, 3))).astype(np.uint8).tobytes()


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A picture as a PNG file."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + pixels[at : at + 3 * width] for at in range(0, len(pixels), 3 * width))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Renders a picture on a cluster.")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    width, height = asked.width, asked.width * 9 // 16
    with ripieno.connect() as cluster:
        bands = [range(top, min(top + 16, height)) for top in range(0, height, 16)]
        parts = cluster.gather(cluster.map(band, bands, [width] * len(bands), [height] * len(bands)))
    asked.file.write_bytes(png(width, height, b"".join(parts)))
    print(f"{asked.file}: {width} x {height}, {len(bands)} tasks")
