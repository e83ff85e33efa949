"""lightly 1.6: the loops of its documentation's examples for SimCLR, BYOL, DINO and MAE, on a folder of pictures.

As documented: one forward per view, per-image transforms in the loader, SGD 0.06 (DINO, MAE: Adam, AdamW). Same as
ours: network, widths of heads and decoder, number and size of crops. ``bf16``: autocast around the loss, by hand.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from lightly.data import LightlyDataset
from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss
from lightly.models import utils
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    MaskedVisionTransformerDecoderTIMM,
    MaskedVisionTransformerTIMM,
    SimCLRProjectionHead,
)
from lightly.transforms import DINOTransform, MAETransform, SimCLRTransform
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from starter import network, options, serve
from torch import Tensor, nn

DECODER_DIM = 128


class SimCLR(nn.Module):
    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone, self.projection_head = backbone, SimCLRProjectionHead(dim, 1024, 128)
        self.criterion = NTXentLoss()

    def loss(self, views: list[Tensor]) -> Tensor:
        z0, z1 = (self.projection_head(self.backbone(view)) for view in views)
        return self.criterion(z0, z1)

    def after(self) -> None: ...


class BYOL(nn.Module):
    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone, self.projection_head = backbone, BYOLProjectionHead(dim, 1024, 256)
        self.prediction_head = BYOLPredictionHead(256, 1024, 256)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        utils.deactivate_requires_grad(self.backbone_momentum)
        utils.deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, views: list[Tensor]) -> Tensor:
        x0, x1 = views
        utils.update_momentum(self.backbone, self.backbone_momentum, m=0.99)
        utils.update_momentum(self.projection_head, self.projection_head_momentum, m=0.99)
        p0, p1 = (self.prediction_head(self.projection_head(self.backbone(x))) for x in (x0, x1))
        z0, z1 = (self.projection_head_momentum(self.backbone_momentum(x)).detach() for x in (x0, x1))
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

    def after(self) -> None: ...


class DINO(nn.Module):
    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.student_backbone = backbone
        self.teacher_backbone = copy.deepcopy(backbone)
        self.student_head = DINOProjectionHead(dim, 1024, 256, 2048, freeze_last_layer=1)
        self.teacher_head = DINOProjectionHead(dim, 1024, 256, 2048)
        utils.deactivate_requires_grad(self.teacher_backbone)
        utils.deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=2048, warmup_teacher_temp_epochs=5)

    def loss(self, views: list[Tensor]) -> Tensor:
        utils.update_momentum(self.student_backbone, self.teacher_backbone, m=0.99)
        utils.update_momentum(self.student_head, self.teacher_head, m=0.99)
        teacher = [self.teacher_head(self.teacher_backbone(view)) for view in views[:2]]
        student = [self.student_head(self.student_backbone(view)) for view in views]
        return self.criterion(teacher, student, epoch=0)

    def after(self) -> None:
        self.student_head.cancel_last_layer_gradients(current_epoch=0)


class MAE(nn.Module):
    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.patch_size = vit.patch_embed.patch_size[0]
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.sequence_length = self.backbone.sequence_length
        self.decoder_embed = nn.Linear(vit.embed_dim, DECODER_DIM)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches, embed_dim=DECODER_DIM, depth=2, num_heads=4,
            num_prefix_tokens=vit.num_prefix_tokens)
        self.prediction_head = nn.Linear(DECODER_DIM, 3 * self.patch_size**2)
        self.criterion = nn.MSELoss()

    def loss(self, views: list[Tensor]) -> Tensor:
        images = views[0]
        keep, mask = utils.random_token_mask(size=(len(images), self.sequence_length), mask_ratio=0.75,
                                             device=images.device)
        encoded = self.decoder_embed(self.backbone.encode(images=images, idx_keep=keep))
        tokens = utils.set_at_index(encoded.new_zeros(len(images), self.sequence_length, DECODER_DIM), keep, encoded)
        prediction = self.prediction_head(utils.get_at_index(self.decoder(tokens, idx_mask=mask), mask))
        target = utils.get_at_index(utils.patchify(images, self.patch_size), mask - 1)
        return self.criterion(prediction, target)

    def after(self) -> None: ...


def transform(method: str, size: int) -> Any:
    """As in the examples for small pictures: no blur."""
    if method == "simclr":
        return SimCLRTransform(input_size=size, gaussian_blur=0.0)
    if method == "byol":
        return BYOLTransform(view_1_transform=BYOLView1Transform(input_size=size, gaussian_blur=0.0),
                             view_2_transform=BYOLView2Transform(input_size=size, gaussian_blur=0.0))
    if method == "dino":
        return DINOTransform(global_crop_size=size, local_crop_size=size // 2, n_local_views=4,
                             gaussian_blur=(0.0, 0.0, 0.0))
    return MAETransform(input_size=size)


def build(method: str, backbone: str, size: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    net = network(backbone, size)
    if method == "mae":
        model: nn.Module = MAE(net)
        return model, torch.optim.AdamW(model.parameters(), lr=1.5e-4)
    model = {"simclr": SimCLR, "byol": BYOL, "dino": DINO}[method](net, net.num_features)
    if method == "dino":
        return model, torch.optim.Adam(model.parameters(), lr=0.001)
    return model, torch.optim.SGD(model.parameters(), lr=0.06)


def main() -> None:
    chosen = options()
    model, optimizer = build(chosen["method"], chosen["backbone"], chosen["size"])
    dataset = LightlyDataset(chosen["images"], transform=transform(chosen["method"], chosen["size"]))
    loader = torch.utils.data.DataLoader(dataset, batch_size=chosen["batch"], shuffle=True, drop_last=True,
                                         num_workers=0)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def lap(line: str) -> int:
        for views, *_ in itertools.islice(batches, chosen["steps"]):
            with torch.autocast("cpu", torch.bfloat16, enabled=chosen["bf16"]):
                loss = model.loss(views)  # type: ignore[operator]
            loss.backward()
            model.after()  # type: ignore[operator]
            optimizer.step()
            optimizer.zero_grad()
        return int(chosen["batch"] * chosen["steps"])

    serve(lap)


if __name__ == "__main__":
    main()
