"""The peers' own environments: one virtual environment each, with torch, torchvision and timm of our versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.record import OUT

HERE = Path(__file__).parent
PEERS = {"lightly": ("lightly==1.6.0", HERE / "lightly_examples.py"),
         "stable-pretraining": ("stable-pretraining==0.1.8", HERE / "stable_pretraining_examples.py")}


def command(peer: str) -> list[str]:
    """How to start a peer's script; installs the peer on first use (some 20 s and 5 GB with torch's libraries)."""
    requirement, script = PEERS[peer]
    folder = OUT / "peers" / peer
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or sys.exit("uv is missing")
        shared = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "timm")]
        subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), requirement, *shared], check=True)
        (folder / ".installed").touch()
    return [str(python), str(script)]
