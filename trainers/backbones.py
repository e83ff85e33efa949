"""timm backbones with one feature rule per kind, sized for the image.

Small inputs (under 112 px): a ResNet gets a 3x3 stride-2 stem without max-pool (total stride 16; half the cost of the
stride-1 stem usual on CIFAR), a ViT gets patch = image_size // 8 (64 tokens). From 112 px on the timm model is stock.
Features: ResNet global average pool; ViT mean of the normalised patch tokens, for every method (the class token stays
in the network). ``Backbone.net.state_dict()`` loads with ``strict=True`` into ``timm_model(name, image_size)``, which
at 224 px is nothing but ``timm.create_model(name, num_classes=0)``.
Shapes: B images, s side in pixels, N tokens, P prefix tokens (class token), D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, final

import timm
import torch
from timm.layers import PatchEmbed
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from trainers import plugins
from trainers.config import ConfigError, suggest
from trainers.convolution import use_matrix_products
from trainers.python_file import told

SMALL_IMAGE = 112
SMALL_GRID = 8
BACKBONES: dict[str, str] = {
    "resnet18": "ResNet-18 (He et al. 2016, arXiv:1512.03385), 11 M parameters, 512 features",
    "vit_tiny": "ViT-Tiny/16 (Dosovitskiy et al. 2021, arXiv:2010.11929), 5.5 M parameters, 192 features",
}
"""The backbones with recipes. Any other timm name works too, and plug-ins do (``find_builder``)."""
_TIMM_NAMES = {"vit_tiny": "vit_tiny_patch16_224"}


def find_builder(name: str) -> Callable[[int], nn.Module] | None:
    """The function of a plug-in, image size in pixels -> network; None for the names of timm and of ``BACKBONES``.

    The network takes (B, 3, s, s) normalised images to (B, ``num_features``). Raises ``ConfigError`` at
    ``grid.backbone``.
    """
    if not plugins.is_plugin("backbones", name):
        return None
    plugin = plugins.find("backbones", name)
    if timm.is_model(plugin.name):
        raise plugins.refuse("backbones", name, f"'{plugin.name}' is a model of timm; call yours otherwise")
    if not callable(plugin.value):
        raise plugins.refuse("backbones", name, "a backbone is a function: image size -> torch module")
    return cast(Callable[[int], nn.Module], plugin.value)


def timm_name(name: str) -> str:
    """The timm model behind a short name. Raises ``ConfigError`` for what timm does not have."""
    full = _TIMM_NAMES.get(name, name)
    if not timm.is_model(full):
        hint = suggest(name, [*BACKBONES, *timm.list_models()])
        raise ConfigError("backbone", f"timm has no model '{name}'{hint}; with recipes: {', '.join(BACKBONES)}")
    return full


def timm_model(name: str, image_size: int) -> nn.Module:
    """The bare timm network (``num_classes=0``, random weights) as built for square images of ``image_size`` pixels."""
    full = timm_name(name)
    net: nn.Module = timm.create_model(full, num_classes=0)
    if _is_resnet(net):
        if image_size < SMALL_IMAGE:
            width = cast(nn.Conv2d, net.conv1).out_channels
            net.conv1 = nn.Conv2d(3, width, kernel_size=3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm
            net.maxpool = nn.Identity()
        return net
    if _is_vit(net):
        patch = image_size // SMALL_GRID if image_size < SMALL_IMAGE else cast(Any, net.patch_embed).patch_size[0]
        if image_size % patch:
            raise ConfigError("data.image_size", f"{name} needs a multiple of its patch ({patch} px), got {image_size}")
        # dynamic_img_size: smaller views (DINO's local crops) go through the same network.
        net = timm.create_model(
            full, num_classes=0, img_size=image_size, patch_size=patch, dynamic_img_size=True, drop_path_rate=0.0
        )
    return net


def _is_resnet(net: nn.Module) -> bool:
    return type(net) is ResNet and isinstance(net.conv1, nn.Conv2d)


def _is_vit(net: nn.Module) -> bool:
    return (
        type(net) is VisionTransformer
        and net.pos_embed is not None
        and isinstance(net.patch_embed, PatchEmbed)
        and net.attn_pool is None
    )


def choose_attention(blocks: nn.Module, device: torch.device) -> None:
    """Plain matmul-softmax-matmul on the CPU, where fused bf16 attention is 1.9 times slower; fused elsewhere."""
    fused = device.type != "cpu"
    for module in blocks.modules():
        if getattr(module, "fused_attn", fused) != fused:  # else not even touched: torch.export would warn of it
            module.fused_attn = fused  # type: ignore[assignment]


@final
class Backbone(nn.Module):
    """A timm network and the rule that makes one feature vector of an image.

    ``kind``: ``resnet`` or ``vit`` (plain classes of timm; masked methods need one of them), else ``other``, as the
    networks of plug-ins all are.
    """

    def __init__(self, name: str, image_size: int) -> None:
        super().__init__()
        self.name = name
        self.image_size = image_size
        builder = find_builder(name)
        self.net = timm_model(name, image_size) if builder is None else _own_network(name, builder, image_size)
        self.kind = "other"
        if builder is None:
            self.kind = "resnet" if _is_resnet(self.net) else "vit" if _is_vit(self.net) else "other"
        self.feature_dim = int(cast(Any, self.net).num_features)
        if self.kind == "resnet":
            self.net.to(memory_format=torch.channels_last)
        if self.kind != "vit":
            use_matrix_products(self.net)
        if self.kind == "other":
            self.feature_dim = self._probe_width()

    @property
    def patch_size(self) -> int:
        """Side of the smallest unit that can be masked, pixels: a ViT's patch, a ResNet's total stride."""
        if self.kind == "vit":
            return int(cast(VisionTransformer, self.net).patch_embed.patch_size[0])
        return int(cast(Any, self.net).feature_info[-1]["reduction"]) // (2 if self.image_size < SMALL_IMAGE else 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, s, s) normalised images -> (B, D) features."""
        if self.kind == "vit":
            return self.pool(self.tokens(images))
        return cast(Tensor, self.net(images))

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, P + N, D) -> (B, D): mean over the patch tokens."""
        return tokens[:, cast(VisionTransformer, self.net).num_prefix_tokens :].mean(1)

    def tokens(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """ViT only: normalised tokens (B, P + N, D). ``keep`` (B, n): indices of the patches the network sees (MAE).

        Equal to timm's ``forward_features`` when ``keep`` is None.
        """
        net = cast(VisionTransformer, self.net)
        choose_attention(net.blocks, images.device)
        x = net.patch_embed(images)
        height, width = x.shape[1:3]
        x = x.flatten(1, 2)
        prefix = 0 if net.no_embed_class else net.num_prefix_tokens
        positions = cast(Tensor, net.pos_embed)
        grid = (int(net.patch_embed.grid_size[0]), int(net.patch_embed.grid_size[1]))
        x = x + _resample(positions[:, prefix:], grid, (height, width))
        if keep is not None:
            x = x.gather(1, keep[:, :, None].expand(-1, -1, x.shape[-1]))
        extra = [token for token in (net.cls_token, net.reg_token) if token is not None]
        if extra:
            head = torch.cat(extra, 1)
            head = head + positions[:, :prefix] if prefix else head
            x = torch.cat([head.to(x.dtype).expand(x.shape[0], -1, -1), x], 1)
        return cast(Tensor, net.norm(net.blocks(net.norm_pre(net.pos_drop(x)))))

    @torch.no_grad()
    def _probe_width(self) -> int:
        was_training = self.net.training
        try:
            out = self.net.eval()(torch.zeros(1, 3, self.image_size, self.image_size))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError("backbone", f"{self.name} cannot take {self.image_size}-px images: {reason}") from error
        self.net.train(was_training)
        shape = tuple(getattr(out, "shape", ()))
        if len(shape) != 2:
            raise ConfigError("backbone", f"{self.name} gives no pooled features (shape {shape})")
        if plugins.is_plugin("backbones", self.name) and shape[1] != self.feature_dim:
            raise plugins.refuse("backbones", self.name, f"num_features is {self.feature_dim}, but the output "
                                 f"has {shape[1]}")
        return int(shape[1])


def _own_network(name: str, builder: Callable[[int], nn.Module], image_size: int) -> nn.Module:
    try:
        net = builder(image_size)
    except Exception as error:
        raise plugins.refuse("backbones", name, f"building it for {image_size} px raised {told(error)}") from error
    if not isinstance(net, nn.Module) or not isinstance(getattr(net, "num_features", None), int):
        raise plugins.refuse("backbones", name, "must return a torch module with num_features, the width of its output")
    return net


def _resample(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Position table (1, h·w, D) for another grid: antialiased bicubic as in timm, but as one matrix product.

    timm rounds to float32 on the way and its backward is not deterministic on CUDA; a product is, in any precision.
    """
    if old == new:
        return positions
    with torch.autocast(positions.device.type, enabled=False):
        units = torch.eye(old[0] * old[1], device=positions.device, dtype=positions.dtype).view(-1, 1, *old)
        weights = F.interpolate(units, size=new, mode="bicubic", antialias=True, align_corners=False)
        return weights.flatten(1).T @ positions


def build_backbone(name: str, image_size: int) -> Backbone:
    """A fresh backbone from the global torch generator. Raises ``ConfigError`` for an unknown name or unfit size."""
    return Backbone(name, image_size)
