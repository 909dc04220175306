"""Share of simulated lattices for whose lines the right cell is proposed first.

Lattices are drawn at random in each system; of their first lines, some are missing at random, and
|q| has errors of 4e-4 1/angstrom. Lines at random places show how often a cell is proposed by
chance. Run: `python benchmarks/indexing.py [--lattices N] [--seed N]`.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tracks.indexing import propose_cells

ERROR = 4e-4
SYSTEMS = ("cubic", "tetragonal", "hexagonal", "orthorhombic")
Q_MAX = 3.2


def main() -> None:
    """Print, for 5, 8 and 12 lines, the share of right proposals and of chance ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lattices", type=int, default=12)
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print("lines  system        right first  right among all  of")
    began = time.process_time()
    for n in (5, 8, 12):
        for system in SYSTEMS:
            first = among = 0
            for _ in range(options.lattices):
                q, edges = lattice(rng, system, n)
                cells = propose_cells(q + rng.normal(0, ERROR, len(q)), np.full(len(q), ERROR))
                right = [
                    cell.system == system
                    and np.allclose(sorted((cell.a, cell.b, cell.c)), edges, rtol=5e-3)
                    for cell in cells
                ]
                first += bool(right and right[0])
                among += any(right)
            print(f"{n:5d}  {system:12s} {first:11d} {among:16d} {options.lattices:4d}")
        chance = sum(
            bool(propose_cells(np.sort(rng.uniform(0.7, 3.0, n)), np.full(n, ERROR)))
            for _ in range(options.lattices)
        )
        print(f"{n:5d}  at random: a cell for {chance} of {options.lattices}")
    print(f"{time.process_time() - began:.0f} CPU s")


def lattice(
    rng: np.random.Generator, system: str, n: int
) -> tuple[NDArray[np.float64], list[float]]:
    """Return |q| of `n` of the first 1.5 n lines of a random lattice, and its sorted edges."""
    a, b, c = rng.uniform(4, 10, 3)
    one, two, three = ((2 * np.pi / edge) ** 2 for edge in (a, b, c))
    squares = {
        "cubic": lambda h, k, m: one * (h * h + k * k + m * m),
        "tetragonal": lambda h, k, m: one * (h * h + k * k) + three * m * m,
        "hexagonal": lambda h, k, m: one * 4 / 3 * (h * h + h * k + k * k) + three * m * m,
        "orthorhombic": lambda h, k, m: one * h * h + two * k * k + three * m * m,
    }[system]
    indices = [hkl for hkl in itertools.product(range(7), repeat=3) if sum(hkl)]
    q = np.sqrt(np.unique(np.round([squares(*hkl) for hkl in indices], 9)))
    q = q[q < Q_MAX]
    q = q[np.concatenate([[True], np.diff(q) > 0.008])]
    chosen = np.sort(rng.choice(min(int(1.5 * n), len(q)), min(n, len(q)), replace=False))
    edges = {"cubic": (a, a, a), "orthorhombic": (a, b, c)}.get(system, (a, a, c))
    return q[chosen], sorted(edges)


if __name__ == "__main__":
    main()
