"""Seeds and structures reserved for training, for calibration, and for evaluation."""

from __future__ import annotations

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.structures.cif_files import Structure, read_structures, shipped_cifs

__all__ = ["CALIBRATION", "EVALUATION", "TRAINING", "require_within", "structures_for"]

TRAINING = range(900_000)
CALIBRATION = range(900_000, 910_000)
EVALUATION = range(910_000, 1 << 31)

# Shipped structures that are excluded from training.
_HELD_OUT = ("CsPbBr3", "LaB6", "PbBr2")
_Q_MAX = 5.0  # 1/angstrom, the farthest a simulated detector reaches


def require_within(first: int, count: int, allowed: range) -> range:
    """Return `count` seeds from `first` on; raises ConfigError unless all are in `allowed`."""
    seeds = range(first, first + count)
    if not seeds or seeds[0] not in allowed or seeds[-1] not in allowed:
        message = (
            f"got the seeds {first} to {first + count - 1}; expected at least one, all within "
            f"{allowed.start} to {allowed.stop - 1}: no network is judged on what trained it"
        )
        raise ConfigError(message)
    return seeds


def structures_for(seeds: range) -> tuple[Structure, ...]:
    """Return the shipped structures that frames of these seeds may show: never both kinds.

    EVALUATION: those held out; TRAINING and CALIBRATION: the others
    """
    held_out = seeds == EVALUATION
    paths = [p for name, p in shipped_cifs().items() if (name in _HELD_OUT) == held_out]
    return read_structures(paths, _Q_MAX)
