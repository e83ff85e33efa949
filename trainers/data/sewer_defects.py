"""The defects of the simulated pipes, one function per Sewer-ML code, and the picture as a whole.

``strength`` runs from 0 (subtle) to 1 (plain). What tells a defect is its shape and relief, not its brightness:
each is drawn lighter or darker than the wall, and each has a harmless look-alike in ``sewer_drawing``
(crack - scratch, crust and bare aggregate - flat stain, sediment - water and dirty band, displaced joint - joint).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainers.data.sewer_drawing import Camera, Canvas, distractors, light, on_wall, sensor, wall, water
from trainers.data.textures import ROUND

CODES = ("RB", "OB", "FS", "RO", "IN", "AF", "BE")
WATER_LEVELS = (0, 5, 10, 20, 30)  # percent of the diameter, as annotated in Sewer-ML


@dataclass(frozen=True)
class Scene:
    """What the tables say about a picture."""

    codes: tuple[str, ...]
    """Defects, empty for a normal picture."""
    water_level: int
    """Percent."""
    water_note: bool
    """Sewer-ML's VA: a water level was annotated here. Not a defect."""


def generator(seed: int, index: int) -> np.random.Generator:
    """The only source of randomness of picture ``index``."""
    return np.random.Generator(np.random.PCG64([seed, index]))


def scene(rng: np.random.Generator, prevalence: float) -> Scene:
    codes: tuple[str, ...] = ()
    kinds = rng.permutation(len(CODES))[:2 if rng.random() < 0.2 else 1]
    if rng.random() < prevalence:
        codes = tuple(CODES[kind] for kind in sorted(kinds))
    return Scene(codes, int(rng.choice(WATER_LEVELS, p=(0.35, 0.2, 0.2, 0.15, 0.1))), bool(rng.random() < 0.31))


def picture(seed: int, index: int, size: int, prevalence: float) -> np.ndarray:
    """Picture ``index``: (size, size, 3) uint8, the same on every machine and in every order."""
    rng = generator(seed, index)
    what = scene(rng, prevalence)
    strength = {code: float(rng.uniform(0.3, 1)) for code in what.codes}
    step = None
    joint = rng.uniform(1.0, 2.2)
    if "FS" in strength:
        angle, length = rng.uniform(-np.pi, np.pi), 0.17 + 0.17 * strength["FS"]
        step = (length * np.cos(angle), length * np.sin(angle))
    canvas = Canvas(rng, size, Camera.draw(rng), joint, rng.uniform(1.4, 2.6), step)
    wall(canvas)
    distractors(canvas)
    for code in what.codes:
        if code != "AF":
            DEFECTS[code](canvas, strength[code])
    water(canvas, what.water_level / 100)
    if "AF" in strength:  # lies in the water
        sediment(canvas, strength["AF"])
    return sensor(light(canvas), rng)


def _place(canvas: Canvas) -> tuple[float, float]:
    """A wall point well in view and clear of the water: theta within 130 degrees of the top."""
    return float(np.pi / 2 + canvas.rng.uniform(-2.2, 2.2)), float(canvas.rng.uniform(1.05, 1.9))


def crack(canvas: Canvas, strength: float) -> None:
    """RB: jagged branching dark lines with a lighter broken edge."""
    rng = canvas.rng
    curves: list[np.ndarray] = []
    widths: list[float] = []
    theta, z = _place(canvas)
    heading = rng.uniform(0, 2 * np.pi)
    for branch in range(rng.integers(3, 5) + round(3 * strength)):
        steps = rng.integers(8, 16)
        fork = 0.0 if branch == 0 else rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.4)
        turns = heading + fork + rng.normal(0, 0.75, steps)
        length = rng.uniform(0.07, 0.13)
        around = theta + np.cumsum(np.sin(turns)) * length
        along = np.abs(z + np.cumsum(np.cos(turns)) * length - 0.75) + 0.75
        curves.append(on_wall(around, along))
        widths.append(float((1.1 + 1.3 * strength) * (1 if branch == 0 else 0.7)))
        if branch == 0:
            trunk = np.stack([around, along], -1)
        theta, z = trunk[rng.integers(len(trunk) // 3, len(trunk))]
    mask = canvas.lines(curves, widths)
    edge = np.clip(canvas.lines(curves, [w + 1.3 for w in widths]) - mask, 0, 1)
    canvas.albedo *= (1 + 0.35 * rng.random() * edge - (0.75 + 0.2 * strength) * mask)[..., None]


def roots(canvas: Canvas, strength: float) -> None:
    """RO: a bush of thin curls growing out of a joint into the pipe."""
    rng = canvas.rng
    theta, _ = _place(canvas)
    count = int(12 + 18 * strength)
    curves, steps = [], np.linspace(0, 1, 8)[:, None]
    around = theta + rng.normal(0, 0.22 + 0.15 * strength, count)
    for start in on_wall(around, canvas.joint + rng.normal(0, 0.03, count)):
        inward = -start * (1, 1, 0) + rng.normal(0, 0.55, 3) + (0, -0.4, -0.35)
        wiggle = np.cumsum(rng.normal(0, 0.055, (8, 3)), axis=0)
        curves.append(start + steps * inward * rng.uniform(0.35, 0.55 + 0.35 * strength) + wiggle * steps)
    color = np.array([(0.75, 0.62, 0.42), (0.30, 0.22, 0.13), (0.48, 0.36, 0.22)][rng.integers(3)], np.float32)
    shades = [int(v) for v in rng.uniform(90, 255, count)]
    widths = list(rng.uniform(0.8, 1.3 + 0.7 * strength, count))
    mask, value = canvas.lines(curves, widths), canvas.lines(curves, widths, shades)
    lit = color * np.float32(1.5 / (1 + (canvas.joint / 2) ** 2)) * (value / np.maximum(mask, 1e-3))[..., None]
    canvas.overlays.append((mask, lit))


def sediment(canvas: Canvas, strength: float) -> None:
    """AF: a bank of gravel and sludge with a ragged shore along the bottom."""
    rng = canvas.rng
    half = 0.4 + 0.5 * strength
    away = np.abs(canvas.turned(-np.pi / 2 + rng.normal(0, 0.15)))
    shore = half * (1 + 0.35 * canvas.noise("coarse", ROUND * 0.8)) - away
    mask = np.clip(shore * 12, 0, 1) / (1 + (canvas.z / 5) ** 4)
    grit = canvas.noise("pebbles", ROUND * rng.uniform(1.6, 2.4))
    base = np.array([0.44, 0.36, 0.27], np.float32) * np.float32(rng.uniform(0.6, 1.4))
    tone = np.clip(1 + (0.25 + 0.25 * strength) * grit + 0.15 * canvas.noise("fine", ROUND), 0.1, None)
    edge = np.exp(-((shore / 0.06) ** 2)) * 0.4
    canvas.paint(mask, (tone * (1 - edge))[..., None] * base)


def crust(canvas: Canvas, strength: float) -> None:
    """BE: lumps that stick to the wall, lit on the near side and shaded on the far side."""
    rng = canvas.rng
    theta, z = _place(canvas)
    half = (0.5 + 0.4 * strength, 0.4 + 0.4 * strength)
    mask = canvas.patch(theta, z, half, 0.7)
    relief = canvas.noise("lumps", ROUND * rng.uniform(1.5, 2.2))
    color = np.array([(0.72, 0.66, 0.52), (0.50, 0.38, 0.24), (0.40, 0.37, 0.32)][rng.integers(3)], np.float32)
    tone = np.clip(1 + (0.28 + 0.3 * strength) * relief, 0.08, None)
    canvas.paint(mask * 0.95, tone[..., None] * color)


def surface(canvas: Canvas, strength: float) -> None:
    """OB: the wall has worn away to its aggregate: pebbles and pits in the wall's own colour, over a wide area."""
    rng = canvas.rng
    theta, z = _place(canvas)
    mask = canvas.patch(theta, z, (0.6 + 0.7 * strength, 0.5 + 0.6 * strength), 0.8)
    pebbles = canvas.noise("pebbles", ROUND * rng.uniform(1.1, 1.7))
    pits = np.clip(canvas.noise("fine", ROUND * 0.8) - 1.0, 0, 1)
    canvas.albedo *= np.clip(1 + mask * ((0.28 + 0.25 * strength) * pebbles - 0.5 * pits), 0.08, None)[..., None]


def step_shadow(canvas: Canvas, strength: float) -> None:
    """FS: the end face of the displaced pipe (mortar or soil) on one side, a shadow behind the joint on the other."""
    assert canvas.step is not None
    open_side = np.arctan2(canvas.step[1], canvas.step[0])
    behind = np.clip(canvas.z - canvas.joint, 0, None)
    shadow = (behind > 0) * np.exp(-behind / 0.5) * np.clip(np.cos(canvas.turned(float(open_side))), 0, 1)
    canvas.albedo *= (1 - (0.75 + 0.2 * strength) * shadow)[..., None]
    mortar, soil = canvas.rng.uniform(0.8, 1.05), canvas.rng.uniform(0.06, 0.18)
    tone = np.float32(mortar if canvas.rng.random() < 0.5 else soil) * (1 + 0.1 * canvas.noise("fine", ROUND))
    canvas.paint(canvas.face.astype(np.float32), tone[..., None] * np.array([1.0, 0.95, 0.87], np.float32))


def infiltration(canvas: Canvas, strength: float) -> None:
    """IN: rivulets that run down the wall from a wet spot and leave lime or rust."""
    rng = canvas.rng
    theta, z = _place(canvas)
    theta = float(np.pi / 2 + (theta - np.pi / 2) * 0.5)
    side = 1.0 if np.cos(theta) >= 0 else -1.0
    curves, widths = [], []
    for _ in range(int(rng.integers(4, 6) + 5 * strength)):
        length = rng.uniform(0.7, 1.4 + 0.7 * strength)
        fall = np.linspace(0, length, 12)
        drift = np.cumsum(rng.normal(0, 0.022, 12))
        curves.append(on_wall(theta - side * fall, z + rng.normal(0, 0.2 + 0.12 * strength) + drift))
        widths.append(float(rng.uniform(1.0, 1.8 + 1.2 * strength)))
    lime = rng.random() < 0.5
    color = np.array((0.92, 0.90, 0.82) if lime else (0.38, 0.17, 0.06), np.float32)
    spot = canvas.patch(theta, z, (0.16, 0.2), 0.6)
    mask = np.maximum(canvas.lines(curves, widths), 0.8 * spot)
    halo = canvas.lines(curves, [w + 2.5 for w in widths])
    canvas.albedo *= (1 - 0.3 * np.clip(halo - mask, 0, 1))[..., None]
    canvas.paint(mask * (0.55 + 0.35 * strength), color)


DEFECTS: dict[str, Callable[[Canvas, float], None]] = {
    "RB": crack, "OB": surface, "FS": step_shadow, "RO": roots, "IN": infiltration, "AF": sediment, "BE": crust,
}
