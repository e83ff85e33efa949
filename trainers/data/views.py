"""Batched augmentation with parameters of its own for every image, on the training device.

All geometry and blur are small matrix products (one matrix per image and axis), so the cost does not
depend on the blur's kernel and the crop-resize is antialiased: without that a crop-resize is another,
sharper augmentation. Parameters follow torchvision's distributions; they are drawn from a counter-based
hash of (seed, epoch, image, view), never from a generator, so that neither rank, worker nor batch
composition changes what an image looks like.

Shapes: B images, S side of the source, s side of the view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trainers.draws import uniforms

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as torchvision's rgb_to_grayscale
ATTEMPTS = 10
"""Draws of a crop before the whole image is taken, as in torchvision."""
LEFT, TOP, FLIP, JITTER, GRAY, BRIGHTNESS, CONTRAST, SATURATION, HUE, SOLARIZE, SIGMA, BLUR = range(12)
CROP_TRIES = slice(12, 12 + 2 * ATTEMPTS)
PARAMETERS = CROP_TRIES.stop
"""Uniforms drawn per image and view; the names above are their columns."""


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """One augmented view. ``…_p`` = probabilities; ``jitter`` = (brightness, contrast, saturation, hue) strengths."""

    size: int
    """Side of the view, pixels."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image area that the crop covers."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.0
    gray_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """In pixels of a 224-px view (BYOL, appendix B); scaled by size / 224 for other sizes."""
    solarize_p: float = 0.0


@dataclass(frozen=True)
class _Draw:
    """The (B, PARAMETERS) uniforms of one view."""

    u: Tensor

    def between(self, column: int, low: float, high: float) -> Tensor:
        return low + (high - low) * self.u[:, column]

    def chance(self, column: int, probability: float) -> Tensor:
        return self.u[:, column] < probability


@dataclass(frozen=True)
class Normalization:
    """Pixels in [0, 1] -> network input: by constants (3,) of a data set, or, without any, by each view's own
    mean and deviation over all channels, which takes lighting out and leaves hue and structure.

    The deviation is at least 1 / sqrt(number of values), so that a flat picture's noise is not blown up (as
    TensorFlow's ``per_image_standardization``).
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, s, s) -> the same, channels-last in memory."""
        if self.mean is None or self.std is None:
            std, mean = torch.std_mean(pixels, (1, 2, 3), correction=0, keepdim=True)
            std = std.clamp(min=pixels[0].numel() ** -0.5)
        else:
            mean, std = (_constant(values, pixels)[:, None, None] for values in (self.mean, self.std))
        return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, keys: Tensor, specs: list[ViewSpec], normalize: Normalization) -> list[Tensor]:
    """Draw one view per spec from uint8 ``images`` (B, 3, S, S); ``keys`` (B,) int64, one per (seed, epoch, image).

    Returns V normalised tensors (B, 3, s_v, s_v) of torch's default float type, channels-last in memory.
    """
    dtype = torch.get_default_dtype()
    pixels = images.to(dtype).div_(255.0)
    views = []
    for number, spec in enumerate(specs):
        draw = _Draw(uniforms(keys, number, PARAMETERS).to(dtype))
        views.append(normalize(_view(pixels, draw, spec)))
    return views


def center_view(images: Tensor, size: int, normalize: Normalization) -> Tensor:
    """The un-augmented view of evaluation: the whole image, resized with antialias. (B, 3, S, S) -> (B, 3, s, s)."""
    pixels = images.to(torch.get_default_dtype()).div_(255.0)
    if images.shape[-1] != size:
        whole = torch.ones(len(images), device=images.device) * images.shape[-1]
        weights = _resize_weights(torch.zeros_like(whole), whole, images.shape[-1], size)
        pixels = _separable(pixels, weights, weights)
    return normalize(pixels)


def _view(pixels: Tensor, draw: _Draw, spec: ViewSpec) -> Tensor:
    rows, columns = _crop_weights(draw, spec, pixels.shape[-1])
    out = _separable(pixels, rows, columns)
    if spec.jitter_p > 0:
        out = torch.where(draw.chance(JITTER, spec.jitter_p)[:, None, None, None], _jitter(out, draw, spec), out)
    if spec.gray_p > 0:
        out = torch.where(draw.chance(GRAY, spec.gray_p)[:, None, None, None], _luma(out).expand_as(out), out)
    if spec.blur_p > 0:
        out = _blur(out, draw, spec)
    if spec.solarize_p > 0:  # torchvision: values at or above the threshold are inverted
        hit = draw.chance(SOLARIZE, spec.solarize_p)[:, None, None, None] & (out >= 128 / 255)
        out = torch.where(hit, 1 - out, out)
    return out


def _crop_weights(draw: _Draw, spec: ViewSpec, source: int) -> tuple[Tensor, Tensor]:
    """Rows and columns (B, s, S) of an antialiased random-resized crop with horizontal flip."""
    width, height = _crop_sides(draw, spec, source)
    left, top = (draw.u[:, LEFT] * (source - width + 1)).floor(), (draw.u[:, TOP] * (source - height + 1)).floor()
    columns = _resize_weights(left, width, source, spec.size)
    columns = torch.where(draw.chance(FLIP, spec.flip)[:, None, None], columns.flip(1), columns)
    return _resize_weights(top, height, source, spec.size), columns


def _crop_sides(draw: _Draw, spec: ViewSpec, source: int) -> tuple[Tensor, Tensor]:
    """Width and height (B,) in whole pixels, by torchvision's law: the first of ten draws of area and aspect that fits
    the image, or all of the image if none does."""
    tries = draw.u[:, CROP_TRIES]
    area = (spec.scale[0] + (spec.scale[1] - spec.scale[0]) * tries[:, :ATTEMPTS]) * source * source
    low, high = math.log(spec.ratio[0]), math.log(spec.ratio[1])
    aspect = torch.exp(low + (high - low) * tries[:, ATTEMPTS:])
    width, height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (torch.minimum(width, height) > 0) & (torch.maximum(width, height) <= source)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # of equal values the first, on every device
    whole = ~fits.any(1)
    return tuple(torch.where(whole, source, side.gather(1, first)[:, 0]) for side in (width, height))  # type: ignore[return-value]


def _resize_weights(start: Tensor, extent: Tensor, source: int, size: int) -> Tensor:
    """Triangle filter (bilinear, widened when shrinking = antialias) from ``extent`` source pixels to ``size``.

    ``start``, ``extent`` (B,) in source pixels; returns (B, size, source), rows sum to 1.
    """
    scale = (extent / size)[:, None, None]
    support = scale.clamp(min=1.0)
    centers = start[:, None, None] + (torch.arange(size, device=start.device)[None, :, None] + 0.5) * scale
    taps = torch.arange(source, device=start.device)[None, None, :] + 0.5
    # A crop does not see beyond its own edge, as with crop-then-resize.
    inside = (taps > start[:, None, None] - 0.5) & (taps < (start + extent)[:, None, None] + 0.5)
    weights = (1 - (taps - centers).abs() / support).clamp(min=0) * inside
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)


def _separable(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ pixels @ columns.T per image and channel: (B, 3, S, S) -> (B, 3, s, s)."""
    return rows[:, None] @ pixels @ columns[:, None].transpose(-1, -2)


def _constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Kept per device: a fresh copy from the host would wait for everything that the device still has to do."""
    return _on_device(values, like.device, like.dtype)


@lru_cache
def _on_device(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # also used where gradients flow
        return torch.tensor(values, device=device, dtype=dtype)


def _luma(pixels: Tensor) -> Tensor:
    return (pixels * _constant(LUMA, pixels)[:, None, None]).sum(1, keepdim=True)


def _jitter(pixels: Tensor, draw: _Draw, spec: ViewSpec) -> Tensor:
    """Brightness, contrast, saturation, hue, each by torchvision's formula; it shuffles them, here the order is fixed,
    so that a batch needs each of them once."""
    brightness, contrast, saturation, hue = spec.jitter

    def factor(column: int, strength: float) -> Tensor:
        return draw.between(column, max(0.0, 1 - strength), 1 + strength)[:, None, None, None]

    out = (pixels * factor(BRIGHTNESS, brightness)).clamp_(0, 1)
    center = _luma(out).mean((1, 2, 3), keepdim=True)
    out = (center + (out - center) * factor(CONTRAST, contrast)).clamp_(0, 1)
    gray = _luma(out)
    out = (gray + (out - gray) * factor(SATURATION, saturation)).clamp_(0, 1)
    return _turn_hue(out, draw.between(HUE, -hue, hue)) if hue else out


def _turn_hue(pixels: Tensor, turns: Tensor) -> Tensor:
    """Add ``turns`` (B,) to the hue of HSV, value and saturation unchanged."""
    red, green, blue = pixels.unbind(1)
    value, least = pixels.amax(1), pixels.amin(1)
    chroma = value - least
    safe = chroma.clamp(min=1e-8)
    sextant = torch.where(value == red, (green - blue) / safe,
                          torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4))
    sextant = sextant + 6 * turns[:, None, None]
    channels = []
    for offset in (5, 3, 1):
        k = (sextant + offset).remainder_(6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 1)


def _blur(pixels: Tensor, draw: _Draw, spec: ViewSpec) -> Tensor:
    """Gaussian blur as one (s, s) matrix per image, applied along both axes."""
    size = pixels.shape[-1]
    sigma = draw.between(SIGMA, *spec.blur_sigma) * size / 224
    taps = torch.arange(1 - size, 2 * size - 1, device=pixels.device, dtype=pixels.dtype)
    distance = (taps[None, :] - taps[size - 1:2 * size - 1, None]).square()
    reach = torch.exp(-distance[None] / (2 * sigma.clamp(min=1e-3).square())[:, None, None])
    kernel = reach[:, :, size - 1:2 * size - 1].clone()  # what lies beyond an edge is its mirror image
    kernel[:, :, 1:] += reach[:, :, :size - 1].flip(2)
    kernel[:, :, :-1] += reach[:, :, 2 * size - 1:].flip(2)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    hit = draw.chance(BLUR, spec.blur_p)[:, None, None]
    kernel = torch.where(hit, kernel, torch.eye(size, device=pixels.device, dtype=pixels.dtype))
    return _separable(pixels, kernel, kernel)
