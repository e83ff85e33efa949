"""The training loop: build, resume, then for every epoch load, forward, backward, step, report, evaluate, save.

``train`` is a generator: every rank drives its own, and the caller decides what to do with what it yields
(``ablation.worker`` writes the ledger; ``python -m trainers`` prints). Nothing is hooked in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from trainers import checkpoint
from trainers.build import Run, build
from trainers.checkpoint import Position
from trainers.collapse import collapse_flags
from trainers.config import TrainConfig
from trainers.data.prefetch import Loaded
from trainers.data.views import augment
from trainers.export import save_encoder
from trainers.machine import reset_peak_memory
from trainers.meter import Meter
from trainers.outcome import Timer, conclude, score
from trainers.records import Batch, EpochReport, Progress, RunContext, TrainResult

CHECKPOINT_SECONDS = 30.0


def train(config: TrainConfig, context: RunContext) -> Iterator[EpochReport | TrainResult]:
    """Train one method on one subset and score its frozen features.

    Yields an ``EpochReport`` per epoch, on every rank, and on rank 0 a ``TrainResult`` last. Continues from the
    checkpoint in ``context.trial_dir`` if there is one, and then ends with the numbers of an undisturbed run. At
    equal global batch the number of ranks changes them by rounding only.

    Raises ``ConfigError`` or ``DataError`` before any training, ``TrainingError('diverged')`` at a loss or gradient
    that is not finite.
    """
    timer = Timer()
    run, meter, start, metrics = _begin(config, context)
    steps, epochs = run.steps_per_epoch, config.train.epochs
    timer.mark("setup")
    saved_at = time.monotonic()

    for epoch in range(start.epoch, epochs):
        first = start.step_in_epoch if epoch == start.epoch else 0
        stream = run.prefetcher.stream(run.sampler.batches(epoch, first), epoch)
        for number, loaded in enumerate(stream, start=first):
            progress = Progress(epoch * steps + number, epochs * steps, epoch, epochs)
            take_step(run, loaded, progress, meter)
            if context.rank == 0 and time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                _save(run, meter, Position(epoch, number + 1), metrics)
                saved_at = time.monotonic()

        metrics = meter.finish(lr=run.schedule.lr((epoch + 1) * steps - 1))
        if context.rank == 0 and _due(epoch, config):
            report = score(run)
            metrics |= report.metrics | report.validation
        flags = collapse_flags(metrics)
        if flags:
            context.log(f"epoch {epoch + 1}: {', '.join(flags)}")
        try:
            with timer.paused():  # what the caller does with a report is not training
                yield EpochReport(epoch + 1, (epoch + 1) * steps, time.time(), metrics, flags)
        except GeneratorExit:  # the caller stops here: what is trained is kept
            if context.rank == 0:
                _save(run, meter, Position(epoch + 1), metrics)
            raise

    timer.mark("train")
    if context.rank == 0:
        save_encoder(context.trial_dir / "encoder.safetensors", run.method.encoder, run.normalize)
        yield conclude(run, timer, metrics)
        checkpoint.clear(context.trial_dir)


def _begin(config: TrainConfig, context: RunContext) -> tuple[Run, Meter, Position, dict[str, float]]:
    """Build the run and put it where its checkpoint left off, with the means of the last whole epoch."""
    run = build(config, context)
    context.log(f"trains in {str(run.precision).removeprefix('torch.')} on {run.device.type}, "
                f"batches of {run.sampler.batch_size}, {run.steps_per_epoch} steps an epoch")
    meter = Meter(run.device)
    reset_peak_memory(run.device)
    saved = checkpoint.load(context.trial_dir, context.log)
    if saved is None:
        return run, meter, Position(), {}
    position, state = saved
    run.load_state(state["run"])
    meter.load_state(state["meter"])
    meter.last_good = position
    context.log(f"continues at epoch {position.epoch + 1}, step {position.step_in_epoch}")
    return run, meter, position, state["metrics"]


def take_step(run: Run, loaded: Loaded, progress: Progress, meter: Meter) -> None:
    """Draw the views of one loaded batch, and move the parameters by one optimiser step."""
    batch = _batch(run, loaded, meter)
    run.schedule.apply(run.optimizer, progress.step)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == torch.bfloat16):
        output = run.ddp(batch, progress)
    output.loss.backward()
    meter.update(output, run.clip_gradients(), progress, num_images=run.sampler.batch_size)
    run.method.before_step(progress)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.method.after_step(progress)


def _batch(run: Run, loaded: Loaded, meter: Meter) -> Batch:
    """Draw the views, on the device; all randomness keyed by (seed, epoch, image)."""
    begun = time.perf_counter()
    views = augment(loaded.images, loaded.view_keys, run.specs, run.normalize)
    meter.seconds_data += time.perf_counter() - begun + run.prefetcher.take_waited()
    return Batch(views, loaded.labels, loaded.mask_keys)


def _save(run: Run, meter: Meter, position: Position, metrics: dict[str, float]) -> None:
    if not meter.is_good:
        return  # only this rank saves: all of them end together at the meter's next look
    state = {"run": run.state(), "meter": meter.state(), "metrics": metrics}
    checkpoint.save(run.context.trial_dir, position, state)
    meter.last_good = position


def _due(epoch: int, config: TrainConfig) -> bool:
    """Evaluate between epochs? The end is always evaluated, by ``conclude``."""
    every = config.evaluation.every
    return every is not None and (epoch + 1) % every == 0 and epoch + 1 < config.train.epochs
