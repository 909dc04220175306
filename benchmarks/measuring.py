"""Time of measuring peaks, on one thread, side by side with another checkout.

Both measure the same boxes in the same remapped image, in turns, each in a process of its own.

    git worktree add ../before 9e4f55a
    python benchmarks/measuring.py --before ../before
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
CHILD = """
import sys, time
import numpy as np
from importlib import import_module
from gixi_bluesky.processing.types import Detections, PolarImage
try:
    measure = import_module("gixi_bluesky.processing.measure.peaks").measure
except ImportError:
    measure = import_module("gixi_bluesky.processing.peaks").measure
data = np.load(sys.argv[1])
parts = {name: data[name] for name in ("intensity", "variance", "pixels", "q", "phi")}
image = PolarImage(**parts)
boxes = Detections(data["boxes"], np.ones(len(data["boxes"]), np.float32))
measure(image, boxes)
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        began = time.process_time()
        measure(image, boxes)
        times.append(time.process_time() - began)
    print(min(times), flush=True)
"""


def main() -> None:
    options = arguments()
    print(
        f"{platform.processor() or platform.machine()}, one thread, CPU milliseconds, best of turn"
    )
    for peaks in options.peaks:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "image.npz"
            save(file, peaks)
            checkouts = [HERE] + ([options.before] if options.before else [])
            report(peaks, [child(checkout, file) for checkout in checkouts], options.turns)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--peaks", type=int, nargs="+", default=[22, 100])
    parser.add_argument("--turns", type=int, default=9)
    return parser.parse_args()


def save(file: Path, peaks: int) -> None:
    """Store a simulated frame, its boxes repeated, a little moved, until there are enough."""
    sys.path[:0] = [str(HERE)]
    from gixi_bluesky.processing.evaluation.known_peaks import known_frames

    frame = next(known_frames(1, 1))
    rng = np.random.default_rng(0)
    found = frame.boxes.boxes
    copies = [found + rng.normal(0, 0.5 * (n > 0), found.shape) for n in range(-(-peaks // 20))]
    polar = frame.polar
    np.savez(
        file,
        boxes=np.concatenate(copies)[:peaks].astype(np.float32),
        **{name: getattr(polar, name) for name in ("intensity", "variance", "pixels", "q", "phi")},
    )


def child(checkout: Path, file: Path) -> subprocess.Popen[str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file)],
        env={**os.environ, **threads, "PYTHONPATH": str(checkout.resolve())},
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def report(peaks: int, children: list[subprocess.Popen[str]], turns: int) -> None:
    times = np.array([[1e3 * turn(one) for one in children] for _ in range(turns)])
    for one in children:
        one.stdin.close()
        one.wait()
    here = np.median(times[:, 0])
    line = f"{peaks:4d} peaks: {here:6.2f} ms, {here / peaks:.3f} ms a peak"
    if len(children) > 1:
        ratio = np.median(times[:, 1] / times[:, 0])
        line += f"; before {np.median(times[:, 1]):6.2f} ms, {ratio:.1f} times as much"
    print(line)


def turn(one: subprocess.Popen[str]) -> float:
    one.stdin.write("8\n")
    one.stdin.flush()
    return float(one.stdout.readline())


if __name__ == "__main__":
    main()
