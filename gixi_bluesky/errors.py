"""Every error that this package raises deliberately; each is also a builtin exception.

GixiError
├── ConfigError (ValueError)         a setting is wrong or missing
├── GeometryError (ValueError)       an impossible geometry, grid or PONI
├── FrameError (ValueError)          one image cannot be analysed: shape, dtype, no valid pixel
│   └── UnavailableError (OSError)   its file or dataset is not there or cannot be read
├── StructureFileError (ValueError)  a CIF cannot be used
├── WeightsError (RuntimeError)      weights are missing, damaged or do not fit the grid
├── TrainingError (ArithmeticError)  a training diverged
├── DocumentError (ValueError)       a document from outside breaks its schema
├── RefusedPathError (PermissionError)  a path or link leads out of the configured roots
├── BrokerError (ConnectionError)    Kafka refused, or is away
├── SlurmError (RuntimeError)        Slurm is not there or refused
└── StoreError (RuntimeError)        Tiled or the results directory refused
    ├── RunCompleteError             this derived run is there and complete
    ├── RowsLostError                the server lost rows that it had taken
    └── ClaimLostError               another writer owns this derived run

Messages say what was got, what was expected and what to do.
"""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "ClaimLostError",
    "ConfigError",
    "DocumentError",
    "FrameError",
    "GeometryError",
    "GixiError",
    "RefusedPathError",
    "RowsLostError",
    "RunCompleteError",
    "SlurmError",
    "StoreError",
    "StructureFileError",
    "TrainingError",
    "UnavailableError",
    "WeightsError",
]


class GixiError(Exception):
    """The base of every error that this package raises deliberately."""


class ConfigError(GixiError, ValueError):
    """A setting is wrong or missing."""


class GeometryError(GixiError, ValueError):
    """The geometry, the grid or the PONI is impossible."""


class FrameError(GixiError, ValueError):
    """One image cannot be analysed; the next one may be fine."""


class UnavailableError(FrameError, OSError):
    """The file or dataset of one image is not there or cannot be read."""


class StructureFileError(GixiError, ValueError):
    """A CIF cannot be used."""


class WeightsError(GixiError, RuntimeError):
    """Weights are missing, damaged or do not fit the grid."""


class TrainingError(GixiError, ArithmeticError):
    """A training diverged."""


class DocumentError(GixiError, ValueError):
    """A document from outside breaks its schema."""


class RefusedPathError(GixiError, PermissionError):
    """A path, or a link inside a file, leads out of the configured roots."""


class BrokerError(GixiError, ConnectionError):
    """Kafka refused, or is away."""


class SlurmError(GixiError, RuntimeError):
    """Slurm is not there, or refused what was asked."""


class StoreError(GixiError, RuntimeError):
    """Tiled or the results directory refused."""


class RunCompleteError(StoreError):
    """The derived run is already stored and complete."""


class RowsLostError(StoreError):
    """The server lost rows that it had taken; open the run again to have them redone."""


class ClaimLostError(StoreError):
    """Another writer holds the claim on the derived run; this one must stop."""
