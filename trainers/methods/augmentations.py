"""The views of the joint-embedding methods, from the papers' tables.

Crop floor: 0.08 of the area from 112 px on (SimCLR, BYOL), 0.2 below (MoCo v2's floor). solo-learn keeps 0.08 on CIFAR,
but 8 % of a 64-px image are 18 x 18 pixels blown up to 64, in which a local defect is either everything or absent.
"""

from __future__ import annotations

from trainers.backbones import SMALL_IMAGE
from trainers.config import ConfigError
from trainers.data.views import ViewSpec


def crop_floor(crop_min: float | None, image_size: int) -> float:
    """The smallest share of the image a crop covers; null takes the default of the image size."""
    return crop_min if crop_min is not None else 0.2 if image_size < SMALL_IMAGE else 0.08


def check_options(*checks: tuple[bool, str, str]) -> None:
    """Raise ``ConfigError`` at ``train.options.<field>`` for the first (good, field, message) that is not good."""
    for good, name, message in checks:
        if not good:
            raise ConfigError(f"train.options.{name}", message)


def check_crop(crop_min: float | None) -> tuple[bool, str, str]:
    return crop_min is None or 0 < crop_min <= 1, "crop_min", f"a share of the area, 0 to 1, got {crop_min}"


def symmetric_views(size: int, crop_min: float | None) -> list[ViewSpec]:
    """SimCLR, appendix A with strength 1; below 112 px its CIFAR setting: strength 0.5, no blur (appendix B.9)."""
    small = size < SMALL_IMAGE
    view = ViewSpec(
        size=size, scale=(crop_floor(crop_min, size), 1.0), jitter_p=0.8, gray_p=0.2,
        jitter=(0.4, 0.4, 0.4, 0.1) if small else (0.8, 0.8, 0.8, 0.2), blur_p=0.0 if small else 0.5,
    )
    return [view, view]


def asymmetric_view(size: int, scale: tuple[float, float], *, blur_p: float, solarize_p: float) -> ViewSpec:
    """BYOL, table 6, also used by Barlow Twins and DINO."""
    return ViewSpec(
        size=size, scale=scale, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2,
        blur_p=blur_p, solarize_p=solarize_p,
    )


def asymmetric_views(size: int, scale: tuple[float, float]) -> list[ViewSpec]:
    """First view always blurred, second rarely blurred and sometimes solarised.

    Below 112 px no blur, as in solo-learn's CIFAR recipes of BYOL, Barlow Twins and DINO: a small view has no
    detail to spare.
    """
    small = size < SMALL_IMAGE
    return [
        asymmetric_view(size, scale, blur_p=0.0 if small else 1.0, solarize_p=0.0),
        asymmetric_view(size, scale, blur_p=0.0 if small else 0.1, solarize_p=0.2),
    ]
