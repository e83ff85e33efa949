"""``python -m trainers CONFIG.json [TRIAL_DIR]``: one trial without Ray, also under torchrun; the result as JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

USAGE = "usage: python -m trainers CONFIG.json [TRIAL_DIR]   (TRIAL_DIR default: ./trial)"


def main(arguments: list[str]) -> int:
    """Exit codes: 0 ok, 2 configuration or data error, 3 the training failed."""
    if not 1 <= len(arguments) <= 2 or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    from trainers import distributed
    from trainers.config import ConfigError, TrainConfig
    from trainers.data.cache import default_cache_dir
    from trainers.data.index import DataError
    from trainers.machine import choose_device
    from trainers.records import EpochReport, RunContext, TrainingError, TrainResult
    from trainers.train import train

    path = Path(arguments[0])
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    try:
        config = TrainConfig.from_dict(json.loads(path.read_text()))
        folder = Path(arguments[1] if len(arguments) == 2 else "trial")
        folder.mkdir(parents=True, exist_ok=True)
        if world_size > 1:
            distributed.init_process_group(rank, world_size, device=choose_device("auto"))
        context = RunContext(trial_dir=folder, cache_dir=default_cache_dir(), rank=rank, world_size=world_size,
                             log=lambda message: print(message, file=sys.stderr))
        for item in train(config, context):
            if isinstance(item, EpochReport) and rank == 0:
                loss = item.metrics["train/loss"]
                print(f"epoch {item.epoch}/{config.train.epochs}  loss {loss:.4f}", file=sys.stderr)
            if isinstance(item, TrainResult):
                print(json.dumps(asdict(item), indent=1))
    except (ConfigError, DataError, OSError, json.JSONDecodeError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"{error.reason}: {error.message}", file=sys.stderr)
        return 3
    finally:
        distributed.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
