"""stable-pretraining 0.1.8: its README's SimCLR and BYOL forwards and its DINO and MAE methods, under Lightning.

As documented: dictionaries through per-image transforms in the loader, ``pl.Trainer.fit``. Same as ours: network,
widths of heads and decoder, number and size of crops. ``bf16``: the Trainer's ``bf16-mixed``, which its README shows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import Queue
from typing import Any

import lightning as pl
import stable_pretraining as spt
import stable_pretraining.forward  # the package does not load it by itself
import torch
from stable_pretraining.data import transforms
from starter import network, options, serve
from torch import Tensor, nn
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def view(size: int, scale: tuple[float, float], jitter: tuple[float, ...], solarize: float = 0.0) -> Any:
    steps = [transforms.RGB(), transforms.RandomResizedCrop((size, size), scale=scale),
             transforms.RandomHorizontalFlip(p=0.5)]
    if any(jitter):
        steps += [transforms.ColorJitter(*jitter, p=0.8), transforms.RandomGrayscale(p=0.2)]
    if solarize:
        steps.append(transforms.RandomSolarize(threshold=128, p=solarize))
    return transforms.Compose(*steps, transforms.ToImage(mean=MEAN, std=STD))


def views(method: str, size: int) -> Any:
    soft = (0.4, 0.4, 0.2, 0.1)
    if method == "mae":
        return view(size, (0.2, 1.0), (0.0, 0.0, 0.0, 0.0))
    if method == "simclr":
        return transforms.MultiViewTransform([view(size, (0.2, 1.0), (0.4, 0.4, 0.4, 0.1))] * 2)
    if method == "byol":
        return transforms.MultiViewTransform([view(size, (0.2, 1.0), soft), view(size, (0.2, 1.0), soft, 0.2)])
    crops = {"global_1": view(size, (0.4, 1.0), soft), "global_2": view(size, (0.4, 1.0), soft, 0.2)}
    return transforms.MultiViewTransform(
        crops | {f"local_{i}": view(size // 2, (0.14, 0.4), soft) for i in range(4)})


class Method(pl.LightningModule):
    """The shape its docstrings give for methods that are classes."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.method = model, name

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        if self.method == "mae":
            return self.model(batch["image"]).loss
        names = [name for name in batch if name.startswith(("global", "local"))]
        images = {name: batch[name]["image"] for name in names}
        return self.model(global_views=[images[n] for n in names if n.startswith("global")],
                          local_views=[images[n] for n in names if n.startswith("local")]).loss

    def on_train_batch_end(self, *args: Any) -> None:
        for module in self.model.modules():
            if isinstance(module, spt.TeacherStudentWrapper):
                module.update_teacher()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1.5e-4)


def build(method: str, backbone: str, size: int) -> pl.LightningModule:
    net = network(backbone, size)
    dim, mlp = net.num_features, spt.backbone.MLP
    optim = {"optimizer": {"type": "AdamW", "lr": 1e-3}}
    if method == "simclr":
        projector = mlp(dim, [1024, 128], norm_layer="batch_norm")
        return spt.Module(forward=spt.forward.simclr, backbone=net, projector=projector,
                          simclr_loss=spt.losses.NTXEntLoss(temperature=0.2), optim=optim)
    if method == "byol":
        return spt.Module(
            forward=spt.forward.byol, backbone=spt.TeacherStudentWrapper(net),
            projector=spt.TeacherStudentWrapper(mlp(dim, [1024, 256], norm_layer="batch_norm")),
            predictor=mlp(256, [1024, 256], norm_layer="batch_norm"), byol_loss=spt.losses.BYOLLoss(), optim=optim)
    from stable_pretraining import methods

    if method == "dino":
        return Method(methods.DINO(net, projector_hidden_dim=1024, n_prototypes=2048), method)
    return Method(methods.MAE(net, decoder_embed_dim=128, decoder_depth=2, decoder_num_heads=4), method)


class Laps(pl.Callback):
    """Holds the Trainer at the first batch of a lap until one is asked for."""

    def __init__(self, steps: int) -> None:
        self.steps, self.seen = steps, 0
        self.asked: Queue[None] = Queue()
        self.done: Queue[None] = Queue()

    def on_train_batch_start(self, *args: Any) -> None:
        if self.seen % self.steps == 0:
            if self.seen:
                self.done.put(None)
            self.asked.get()
        self.seen += 1


def main() -> None:
    chosen = options()
    data = spt.data.FromTorchDataset(ImageFolder(chosen["images"]), names=["image", "label"],
                                     transform=views(chosen["method"], chosen["size"]))
    loader = torch.utils.data.DataLoader(data, batch_size=chosen["batch"], shuffle=True, drop_last=True, num_workers=0)
    laps = Laps(chosen["steps"])
    callbacks: list[pl.Callback] = [laps]
    if chosen["method"] == "byol":
        callbacks.append(spt.callbacks.TeacherStudentCallback())
    trainer = pl.Trainer(max_epochs=10_000, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
                         precision="bf16-mixed" if chosen["bf16"] else "32-true")
    model = build(chosen["method"], chosen["backbone"], chosen["size"])
    fit: Callable[[], None] = lambda: end_if_it_fails(lambda: trainer.fit(model, loader))  # noqa: E731
    threading.Thread(target=fit, daemon=True).start()

    def lap(line: str) -> int:
        laps.asked.put(None)
        laps.done.get()
        return int(chosen["batch"] * chosen["steps"])

    serve(lap)


def end_if_it_fails(work: Callable[[], None]) -> None:
    import traceback

    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
