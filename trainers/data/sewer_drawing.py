"""Pictures of the inside of a pipe, drawn from one random generator per image.

Geometry: a cylinder of radius 1 along z, a pinhole camera inside it looking along +z, x to the right, y up.
A wall point is (theta, z); theta = -pi/2 is the bottom. All arrays are (S, S) with S the side in pixels.
Everything that is not a defect (joints, water, dirt, stains, scratches, shadows, exposure, noise) is drawn
from the same law in normal and defective images, so that none of it tells the label.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from trainers.data.textures import ROUND, sample

FAR = 14.0
"""Distance (pipe radii) beyond which the wall is not told apart."""
MATERIALS = np.array([
    (0.62, 0.58, 0.52), (0.55, 0.53, 0.50), (0.60, 0.45, 0.34),
    (0.68, 0.52, 0.38), (0.66, 0.66, 0.60), (0.50, 0.50, 0.44),
], dtype=np.float32)  # concrete (two), clay (two), plastic, old concrete
DIRT = np.array([(0.42, 0.30, 0.18), (0.30, 0.27, 0.22), (0.80, 0.74, 0.62), (0.55, 0.33, 0.16)], dtype=np.float32)


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and looks. ``offset`` in pipe radii, ``tilt`` (yaw, pitch, roll) in radians."""

    offset: tuple[float, float]
    tilt: tuple[float, float, float]
    focal: float
    """In half image widths."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Camera:
        offset = (rng.uniform(-0.2, 0.2), rng.uniform(-0.3, 0.12))
        tilt = (rng.normal(0, 0.09), rng.normal(0, 0.07), rng.normal(0, 0.12))
        return cls(offset, tilt, rng.uniform(0.8, 1.15))

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) from camera to pipe axes."""
        yaw, pitch, roll = self.tilt
        cy, sy, cp, sp, cr, sr = (g(a) for a in (yaw, pitch, roll) for g in (math.cos, math.sin))
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        return np.asarray(turn @ np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]))

    def rays(self, size: int) -> np.ndarray:
        """(3, S, S) float32 directions in pipe axes."""
        axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        u, v = np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(-axis[:, None], (size, size))
        local = np.stack([u, v, np.full((size, size), self.focal, np.float32)])
        return np.tensordot(self.rotation.astype(np.float32), local, axes=1)

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """Pipe coordinates (N, 3) to pixels (N, 2) of an image with side ``size``."""
        local = (points - np.array([*self.offset, 0.0])) @ self.rotation
        flat = local[:, :2] * (self.focal / np.maximum(local[:, 2:], 0.25))
        return np.asarray((flat * (1, -1) + 1) * (size / 2))


@dataclass
class Canvas:
    """The half-drawn picture: where each pixel hits the wall, and its colour so far (before the light)."""

    rng: np.random.Generator
    size: int
    camera: Camera
    joint: float
    """z of the nearest plain joint; the others follow every ``spacing``."""
    spacing: float
    step: tuple[float, float] | None
    """Displacement of the pipe behind the nearest joint (defect FS)."""
    theta: np.ndarray = field(init=False)
    z: np.ndarray = field(init=False)
    face: np.ndarray = field(init=False)
    """Bool: pixels that see the end face of the displaced pipe."""
    albedo: np.ndarray = field(init=False)
    """(S, S, 3) reflectance."""
    overlays: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """(mask (S, S), colour (3,) or (S, S, 3)) put on after the light: things that stand free in the pipe."""

    def __post_init__(self) -> None:
        self.rays = self.camera.rays(self.size)
        self.theta, self.z = self._hit((0.0, 0.0))
        self.face = np.zeros_like(self.z, dtype=bool)
        if self.step is not None:
            self._displace(self.step)

    def _hit(self, center: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        dx, dy, dz = self.rays
        ox, oy = self.camera.offset[0] - center[0], self.camera.offset[1] - center[1]
        a = np.maximum(dx * dx + dy * dy, 1e-5)
        b = ox * dx + oy * dy
        t = (np.sqrt(b * b - a * np.float32(ox * ox + oy * oy - 1)) - b) / a
        z = np.clip(t * dz, 0.05, FAR)
        return np.arctan2(oy + t * dy, ox + t * dx), z

    def _displace(self, step: tuple[float, float]) -> None:
        dx, dy, dz = self.rays
        beyond = self.z > self.joint
        at = self.joint / np.maximum(dz, 1e-3)
        x, y = self.camera.offset[0] + at * dx - step[0], self.camera.offset[1] + at * dy - step[1]
        self.face = beyond & (x * x + y * y > 1)
        theta, z = self._hit(step)
        self.theta = np.where(beyond, theta, self.theta)
        self.z = np.where(self.face, np.float32(self.joint), np.where(beyond, np.maximum(z, self.joint), self.z))

    @property
    def footprint(self) -> np.ndarray:
        """Length along z that one pixel covers."""
        return np.asarray(self.z * self.z * np.float32(2 / (self.size * self.camera.focal)) + np.float32(0.004))

    def turned(self, theta: float) -> np.ndarray:
        """Signed angle of each pixel from ``theta``, in (-pi, pi]."""
        return np.asarray((self.theta - np.float32(theta - np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi))

    def noise(self, name: str, texels: float, stretch: float = 1.0) -> np.ndarray:
        """A texture laid on the wall at a random place, ``texels`` per pipe radius."""
        shift = self.rng.integers(0, 256, 2)
        around, along = np.float32(texels), np.float32(texels * stretch)
        return sample(name, self.theta * around + shift[0], self.z * along + shift[1])

    def patch(self, theta: float, z: float, half: tuple[float, float], ragged: float = 0.45) -> np.ndarray:
        """Soft mask in [0, 1] of a ragged patch, ``half`` = half extents (around, along)."""
        distance = np.hypot(self.turned(theta) / np.float32(half[0]), (self.z - np.float32(z)) / np.float32(half[1]))
        return np.asarray(np.clip((1 - distance + ragged * 0.5 * self.noise("coarse", ROUND * 1.5)) * 3.5, 0, 1))

    def paint(self, mask: np.ndarray, color: np.ndarray) -> None:
        """Mix ``color`` ((3,) or (S, S, 3)) into the wall."""
        self.albedo += mask[..., None] * (color - self.albedo)

    def lines(self, curves: list[np.ndarray], widths: list[float], fill: list[int] | None = None) -> np.ndarray:
        """Antialiased mask in [0, 1] of 3-d polylines (N, 3); widths in pixels of a 96-pixel image."""
        scale = 3
        picture = Image.new("L", (self.size * scale,) * 2)
        pen = ImageDraw.Draw(picture)
        for number, (curve, width) in enumerate(zip(curves, widths, strict=True)):
            points = self.camera.project(curve, self.size * scale)
            thick = max(1, round(width * scale * self.size / 96))
            shade = 255 if fill is None else fill[number]
            pen.line([tuple(p) for p in points.tolist()], fill=shade, width=thick, joint="curve")
        return np.asarray(picture.reduce(scale), dtype=np.float32) / 255


def on_wall(theta: np.ndarray, z: np.ndarray, radius: float | np.ndarray = 1.0) -> np.ndarray:
    """(N, 3) pipe coordinates of wall points."""
    return np.stack([radius * np.cos(theta), radius * np.sin(theta), z], -1)


def wall(canvas: Canvas) -> None:
    """Material, dirt and joints."""
    rng, z = canvas.rng, canvas.z
    color = MATERIALS[rng.integers(len(MATERIALS))] * rng.uniform(0.93, 1.07, 3).astype(np.float32)
    fade = 1 / (1 + (z / 4) ** 2)
    tone = 1 + rng.uniform(0.08, 0.2) * canvas.noise("coarse", ROUND, 0.5)
    tone += rng.uniform(0.02, 0.07) * canvas.noise("fine", ROUND) * fade
    canvas.albedo = tone[..., None] * color.astype(np.float32)
    width = rng.uniform(0.02, 0.05)
    blurred = np.maximum(width, canvas.footprint)
    for number in range(4):
        at = canvas.joint + number * canvas.spacing
        ring = np.exp(-(((z - at) / blurred) ** 2)) * (width / blurred) ** 0.5
        rim = np.exp(-(((z - at + 2.2 * blurred) / blurred) ** 2)) * (width / blurred) ** 0.5
        canvas.albedo *= (1 - rng.uniform(0.45, 0.8) * ring + rng.uniform(0, 0.25) * rim)[..., None]


def distractors(canvas: Canvas) -> None:
    """Flat stains, soft streaks, straight scratches and seams: in normal and defective pictures alike."""
    rng = canvas.rng
    for _ in range(rng.integers(0, 3)):
        half = (rng.uniform(0.15, 0.6), rng.uniform(0.12, 0.6))
        mask = canvas.patch(rng.uniform(-np.pi, np.pi), rng.uniform(0.8, 2.6), half, rng.uniform(0.3, 0.9))
        canvas.paint(mask * rng.uniform(0.2, 0.6), DIRT[rng.integers(len(DIRT))])
    if rng.random() < 0.4:  # a dirty band along the water line of rainy days
        band = np.exp(-((np.abs(canvas.turned(-np.pi / 2)) / rng.uniform(0.4, 1.3)) ** 4))
        canvas.paint(band * rng.uniform(0.1, 0.5), DIRT[rng.integers(len(DIRT))])
    if rng.random() < 0.35:  # scratches of the cleaning nozzle, along the pipe and straight
        curves, shade = [], rng.uniform(0.3, 0.6)
        for _ in range(rng.integers(1, 4)):
            theta, start = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 2)
            z = np.linspace(start, start + rng.uniform(0.4, 3), 6)
            curves.append(on_wall(theta + rng.normal(0, 0.06) * (z - start), z))
        mask = canvas.lines(curves, list(rng.uniform(0.4, 1.2, len(curves))))
        canvas.albedo *= (1 - shade * mask * (1 if rng.random() < 0.7 else -0.6))[..., None]


def water(canvas: Canvas, level: float) -> None:
    """A flat surface ``level`` pipe diameters above the bottom, with ripples and a mirrored light."""
    if level <= 0:
        return
    rng = canvas.rng
    height = -1 + 2 * level
    dx, dy, dz = canvas.rays
    drop = height - canvas.camera.offset[1]
    if drop > -0.15:
        height, drop = canvas.camera.offset[1] - 0.15, -0.15
    t = drop / np.minimum(dy, -1e-4)
    z = np.clip(t * dz, 0, FAR)
    x = canvas.camera.offset[0] + t * dx
    shore = math.sqrt(max(0.0, 1 - height * height)) - np.abs(x)
    mask = np.clip(shore / (0.02 + 0.02 * z), 0, 1) * ((dy < 0) & (z < FAR))
    shift = rng.integers(0, 256, 2)
    ripple = sample("coarse", x * 30 + shift[0], z * 18 + shift[1])
    color = np.array([0.36, 0.31, 0.22], np.float32) * np.float32(rng.uniform(0.5, 1.3))
    glint = rng.uniform(0, 0.5) * np.exp(-((x - rng.normal(0, 0.1)) / 0.12) ** 2)
    shade = (1 + rng.uniform(0.03, 0.15) * ripple + glint)[..., None] * color
    canvas.paint(mask * rng.uniform(0.8, 1.0), shade)
    canvas.z = np.where(mask > 0, np.maximum(z, np.float32(0.05)), canvas.z)


def light(canvas: Canvas) -> np.ndarray:
    """(S, S, 3) linear picture: lamp on the camera, a soft shadow, overlays."""
    rng, z = canvas.rng, canvas.z
    reach = rng.uniform(1.1, 2.6)
    lamp = 1.9 / (1 + (z / reach) ** 2) + rng.uniform(0.0, 0.06)
    side = rng.uniform(-np.pi, np.pi)
    lamp *= 1 - rng.uniform(0, 0.5) * np.clip(np.cos(canvas.theta - side), 0, 1)
    picture = canvas.albedo * lamp[..., None]
    for mask, color in canvas.overlays:
        picture += mask[..., None] * (color - picture)
    return picture


def sensor(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, colour cast, vignette, blur, blurred caption, noise and JPEG artefacts: (S, S, 3) uint8."""
    size = len(picture)
    gain = rng.uniform(0.55, 1.05) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    vignette = 1 - rng.uniform(0, 0.3) * (axis[:, None] + axis[None, :]) / 2
    picture = np.clip(picture * (gain * vignette[..., None]), 0, None) ** np.float32(rng.uniform(0.6, 0.85))
    picture = picture + rng.uniform(0.004, 0.02) * rng.standard_normal(picture.shape, dtype=np.float32)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6) * size / 96))
    if rng.random() < 0.3:  # Sewer-ML's captions are blurred out
        top = 0 if rng.random() < 0.5 else size - size // 8
        left = int(rng.integers(0, size // 2))
        box = (left, top, left + size // 3, top + size // 8)
        image.paste(image.crop(box).filter(ImageFilter.GaussianBlur(size / 12)), box)
    coded = io.BytesIO()
    image.save(coded, "JPEG", quality=int(rng.integers(70, 96)))
    return np.asarray(Image.open(coded).convert("RGB"))
