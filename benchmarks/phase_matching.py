"""CPU time of matching 100 candidates against frames of 40 to 60 peaks, one thread.

Parts side by side in one run: what is seen and grouped, all candidates weighed alone, the whole
judgement, and the tables with refined cells and textures. The unit is a fixed piece of numpy work,
so that runs on a busy machine can be compared.

    OMP_NUM_THREADS=1 python benchmarks/phase_matching.py [--frames 20]
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np

from gixi_bluesky.processing.evaluation.candidate_sets import candidate_structures
from gixi_bluesky.processing.evaluation.mixtures import DEVELOPMENT, Mixture, mixtures
from gixi_bluesky.processing.match.bayes_factors import Claims, MatchLimits, trials
from gixi_bluesky.processing.match.line_library import LineLibrary
from gixi_bluesky.processing.match.lines import features_of, visibility_of
from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.settings import MatchingSettings

CANDIDATES, FEWEST, MOST = 100, 40, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20)
    frames = chosen(parser.parse_args().frames)
    structures = frames[0].candidates[:CANDIDATES]
    settings = MatchingSettings()
    matcher, library = Matcher(structures, settings), LineLibrary(structures)
    limits = MatchLimits(
        settings.max_dq_inv_angstrom, settings.max_lattice_strain, zero_sigma=0.002
    )

    def seen(frame: Mixture) -> None:
        features_of(frame.peaks, visibility_of(frame.polar, frame.peaks))

    def alone(frame: Mixture) -> None:
        visibility = visibility_of(frame.polar, frame.peaks)
        features = features_of(frame.peaks, visibility)
        tried = trials(library.expected(visibility), features, limits)
        tried.weigh(Claims.none(len(features)))

    def judged(frame: Mixture) -> None:
        visibility = visibility_of(frame.polar, frame.peaks)
        matcher.weigh(frame.peaks, features_of(frame.peaks, visibility), visibility)

    def whole(frame: Mixture) -> None:
        matcher(frame.peaks, frame.polar)

    print(f"{platform.processor() or platform.machine()}, {len(frames)} frames, median CPU ms")
    unit = cpu_ms(lambda _: float(np.exp(work).sum()), frames)
    print(f"{'unit (exp of 100,000 floats)':>32} {unit:7.2f}")
    for name, part in (
        ("peaks grouped", seen),
        ("and all weighed alone", alone),
        ("and judged in sets", judged),
        ("and cells, textures, tables", whole),
    ):
        took = cpu_ms(part, frames)
        print(f"{name:>32} {took:7.2f} {took / unit:7.1f} units")


work = np.linspace(-3, 3, 100_000)


def chosen(count: int) -> list[Mixture]:
    found: list[Mixture] = []
    candidates = candidate_structures(DEVELOPMENT, q_max=6.0)
    for frame in mixtures(DEVELOPMENT, 20 * count, candidates):
        if FEWEST <= len(frame.peaks) <= MOST:
            found.append(frame)
        if len(found) == count:
            break
    return found


def cpu_ms(part: Callable[[Mixture], object], frames: list[Mixture]) -> float:
    """Return the median over frames of the fastest of three rounds."""
    best = np.full(len(frames), np.inf)
    for _ in range(3):
        for index, frame in enumerate(frames):
            began = time.process_time()
            part(frame)
            best[index] = min(best[index], time.process_time() - began)
    return float(1e3 * np.median(best))


if __name__ == "__main__":
    main()
