"""Record ``ablation run quickstart`` in a terminal and draw it: docs/images/terminal.svg, an animated picture.

    python -m benchmarks.terminal                      run it in a folder of its own, about four minutes on 2 cores
    python -m benchmarks.terminal --keep FILE          ... and keep the recording
    python -m benchmarks.terminal --recording FILE     draw a recording again

Everything in the picture is what the command wrote, except for the name of the temporary folder, which is shown as ~.
Minutes are shown in seconds; the panel tells the real time.
"""

from __future__ import annotations

import argparse
import fcntl
import html
import json
import os
import pty
import re
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "terminal.svg"
WORDS = ["run", "quickstart"]
COLUMNS, ROWS = 110, 34
FRAMES, FRAME_SECONDS, LAST_SECONDS = 14, 0.9, 9.0
PAUSE = 0.05
"""Seconds: what comes closer together belongs to one picture."""
LINE, CHAR, MARGIN, SIZE = 18, 8.43, 14, 14
PAPER, INK = "#16181d", "#d7dae0"
COLORS = {1: "#e06c75", 2: "#98c379", 3: "#e5c07b", 6: "#56b6c2"}
"""Of the terminal's red, green, yellow and cyan."""
FONT = 'ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace'
Recording = list[tuple[float, str]]
"""Seconds since the start, and what was written then."""
Screen = list[str]
"""Lines, with their colours as escape sequences."""


def record(words: list[str], folder: Path) -> Recording:
    """Run ``ablation`` in a terminal of COLUMNS by ROWS, with store and cache below ``folder``."""
    pid, master = pty.fork()
    if pid == 0:
        foreign = ("CI", "NO_COLOR", "ABLATION_STORE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        os.chdir(folder)
        os.execvpe(sys.executable, [sys.executable, "-m", "ablation.cli", *words],
                   kept | {"TERM": "xterm-256color", "HOME": str(folder), "ABLATION_CACHE": str(folder / "cache")})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    begun, pieces = time.monotonic(), []
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not data:
            break
        pieces.append((time.monotonic() - begun, data.decode(errors="replace").replace(str(folder), "~")))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        sys.exit(f"ablation ended with {code}: {pieces[-1][1] if pieces else ''}")
    return pieces


def screens(recording: Recording) -> list[tuple[float, Screen]]:
    """What stood on the screen whenever it rested. Knows what rich writes: lines, cursor up, erase line."""
    lines, row, found = [""], 0, []
    moments = [moment for moment, _ in recording[1:]] + [float("inf")]
    for (moment, text), following in zip(recording, moments, strict=True):
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif (up := re.fullmatch(r"\x1b\[(\d*)A", part)) is not None:
                row = max(0, row - int(up[1] or 1))
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part.endswith("m") or part[0] not in "\x1b\r":
                lines[row] += part
        if following - moment > PAUSE:
            found.append((moment, lines[:row + 1]))
    return found


def chosen(found: list[tuple[float, Screen]]) -> list[Screen]:
    """FRAMES screens evenly over the run, of which the last is its end."""
    end = found[-1][0]
    moments = [end * number / (FRAMES - 1) for number in range(1, FRAMES - 1)]
    return [next(screen for moment, screen in reversed(found) if moment <= max(wanted, found[0][0]))
            for wanted in (0.0, *moments)] + [found[-1][1]]


def draw(frames: list[Screen], words: list[str]) -> str:
    """One SVG with all frames, each shown in its turn; where nothing moves the last one is seen."""
    prompt = f"\x1b[1m$ ablation {' '.join(words)}\x1b[0m"
    pages = [[prompt, *_without_end(frame)][-ROWS:] for frame in frames]
    names: dict[str, str] = {}
    rules, groups = [], []
    total = (len(pages) - 1) * FRAME_SECONDS + LAST_SECONDS
    for number, page in enumerate(pages):
        begin, end = (100 * at * FRAME_SECONDS / total for at in (number, number + 1))
        last = number == len(pages) - 1
        steps = "" if number == 0 else "0%{opacity:0}"
        steps += f"{begin:.1f}%{{opacity:1}}" + ("" if last else f"{end:.1f}%,100%{{opacity:0}}")
        rules.append(f"@keyframes f{number}{{{steps}}}#f{number}{{animation:f{number} {total:g}s step-end infinite;"
                     f"opacity:{int(last)}}}")
        uses = [f'<use href="#{names.setdefault(line, f"l{len(names)}")}" y="{row * LINE}"/>'
                for row, line in enumerate(page) if line]
        groups.append(f'<g id="f{number}">{"".join(uses)}</g>')
    lines = "".join(f'<text id="{name}" y="{MARGIN + SIZE}">{_spans(line)}</text>' for line, name in names.items())
    width, height = COLUMNS * CHAR + 2 * MARGIN, max(map(len, pages)) * LINE + 2 * MARGIN
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
            f'aria-label="ablation {" ".join(words)} in a terminal"><style>text{{font:{SIZE}px {FONT};fill:{INK};'
            f'white-space:pre}}{"".join(rules)}@media(prefers-reduced-motion){{g{{animation:none!important}}}}</style>'
            f'<defs>{lines}</defs><rect width="100%" height="100%" rx="8" fill="{PAPER}"/>{"".join(groups)}</svg>\n')


def _without_end(screen: Screen) -> Screen:
    """Without empty lines at the end."""
    while screen and not Text.from_ansi(screen[-1]).plain.strip():
        screen = screen[:-1]
    return screen


def _spans(line: str) -> str:
    """Each word group at its column, so that no font moves it."""
    parts, column = [], 0
    for text, style, _ in Text.from_ansi(line).render(Console(width=1000)):
        for found in re.finditer(r"\S+(?: \S+)*", text):
            x = MARGIN + (column + found.start()) * CHAR
            parts.append(f'<tspan x="{x:.4g}"{_look(style)}>{html.escape(found[0], quote=False)}</tspan>')
        column += len(text)
    return "".join(parts)


def _look(style: Style | None) -> str:
    if style is None:
        return ""
    look = ' font-weight="700"' if style.bold else ""
    if style.color is not None and not style.color.is_default:
        look += f' fill="{COLORS.get(style.color.number or 0) or style.color.get_truecolor().hex}"'
    return look


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recording", type=Path, help="draw this one instead of making one")
    parser.add_argument("--keep", type=Path, help="write the recording here")
    parser.add_argument("--folder", type=Path, help="run here, and leave the store")
    parser.add_argument("--out", type=Path, default=TARGET)
    asked = parser.parse_args()
    if asked.recording:
        recording = [(moment, text) for moment, text in json.loads(asked.recording.read_text())]
    else:
        with tempfile.TemporaryDirectory() as folder:
            recording = record(WORDS, (asked.folder or Path(folder)).resolve())
    if asked.keep:
        asked.keep.write_text(json.dumps(recording))
    asked.out.write_text(draw(chosen(screens(recording)), WORDS))
    print(f"{asked.out}: {asked.out.stat().st_size / 1000:.0f} kB, "
          f"{recording[-1][0]:.0f} s in {FRAMES} pictures")


if __name__ == "__main__":
    main()
