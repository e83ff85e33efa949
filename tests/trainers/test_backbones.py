"""Backbones: sizes, features, and that what is trained loads strictly into plain timm."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from trainers.backbones import BACKBONES, build_backbone, timm_model
from trainers.config import ConfigError
from trainers.names import BACKBONE_NAMES

NAMES = list(BACKBONES)
TIMM = {"resnet18": "resnet18", "vit_tiny": "vit_tiny_patch16_224"}


def test_names_of_study_files_are_the_registry() -> None:
    assert tuple(BACKBONES) == BACKBONE_NAMES


@pytest.mark.parametrize("name", NAMES)
def test_at_224_the_weights_load_strictly_into_timm_create_model(name: str) -> None:
    ours = build_backbone(name, 224).net.state_dict()
    timm.create_model(TIMM[name], num_classes=0).load_state_dict(ours, strict=True)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", NAMES)
def test_small_inputs_load_strictly_into_timm_model(name: str, size: int) -> None:
    backbone = build_backbone(name, size).eval()
    net = timm_model(name, size).eval()
    net.load_state_dict(backbone.net.state_dict(), strict=True)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = backbone(images)
        expected = net.forward_features(images)
    expected = expected[:, 1:].mean(1) if name == "vit_tiny" else expected.mean((2, 3))
    assert features.shape == (2, backbone.feature_dim)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_small_stem_has_total_stride_16_and_small_vit_has_64_tokens() -> None:
    images = torch.randn(1, 3, 64, 64)
    assert timm_model("resnet18", 64).forward_features(images).shape[-2:] == (4, 4)
    assert timm_model("vit_tiny", 64).forward_features(images).shape[1] == 65
    assert [build_backbone(name, 64).patch_size for name in NAMES] == [16, 8]
    assert [build_backbone(name, 112).patch_size for name in NAMES] == [32, 16]


def test_local_crops_see_the_position_table_as_timm_resamples_it() -> None:
    backbone = build_backbone("vit_tiny", 64).eval()
    images = torch.randn(2, 3, 32, 32)
    assert isinstance(backbone.net, VisionTransformer)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.tokens(images), backbone.net.forward_features(images), rtol=1e-4, atol=1e-5
        )


def test_keep_shows_the_network_only_those_patches() -> None:
    backbone = build_backbone("vit_tiny", 32).eval().double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    order = torch.stack([torch.randperm(64), torch.randperm(64)])
    with torch.no_grad():
        whole, shuffled = backbone.tokens(images), backbone.tokens(images, order)
        some = backbone.tokens(images, order[:, :16])
    torch.testing.assert_close(shuffled[:, 1:], whole[:, 1:].gather(1, order[:, :, None].expand(-1, -1, 192)))
    assert some.shape == (2, 17, 192)
    hidden = torch.ones(2, 64).scatter(1, order[:, :16], 0.0).view(2, 1, 8, 8)
    noise = torch.randn_like(images) * hidden.repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        assert torch.equal(backbone.tokens(images + noise, order[:, :16]), some)


def test_any_other_timm_model_gives_pooled_features() -> None:
    backbone = build_backbone("convnext_atto", 64)
    assert backbone.kind == "other"
    assert backbone(torch.randn(2, 3, 64, 64)).shape == (2, backbone.feature_dim)


def test_user_mistakes_name_the_field_and_the_fix() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_backbone("resnet81", 64)
    with pytest.raises(ConfigError, match="multiple of its patch"):
        build_backbone("vit_tiny", 120)
    with pytest.raises(ConfigError, match="cannot take 32-px images"):
        build_backbone("swin_tiny_patch4_window7_224", 32)
