"""The actions of an operator: edit, check, try, keep and use configurations."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.web.operate.configurations import Configurations
from gixi_bluesky.web.operate.jobs import Jobs
from gixi_bluesky.web.operate.record import OperationRecord, now
from gixi_bluesky.web.operate.trial import FrameOf, Trial, TrialProcess, TriedFrame

__all__ = ["Operation", "Operator"]

_PEAK_COLUMNS = ("peak", "q", "phi", "x0", "y0", "x1", "y1", "snr", "kind")
_MATCH_COLUMNS = ("phase", "probability", "n_matched", "n_expected")


@dataclass(frozen=True, slots=True)
class Operator:
    """The one who asks: a name for the record, and the key that Tiled accepted."""

    who: str
    key: str


class Operation:
    """Edits, tries and uses configurations.

    base: the server's own configuration, YAML; folder: where all that is made here is kept
    """

    def __init__(self, base: Path, folder: Path) -> None:
        self.folder = folder = folder.absolute()
        self.configurations = Configurations(base, folder / "configurations")
        self.record = OperationRecord(folder / "operations.jsonl")
        self.jobs = Jobs(folder)
        self._trials = TrialProcess()
        self._uri = ""

    def serve_at(self, uri: str) -> None:
        """Note the address of the Tiled server, once it is known."""
        self._uri = uri

    def close(self) -> None:
        """End what runs on this machine."""
        self._trials.close()
        self.jobs.close()

    def state(self, version: int = 0) -> dict[str, Any]:
        """Return what the page shows before anything is done."""
        return {
            "schema": self.configurations.schema(),
            "configuration": self.configurations.editable(version),
            "structures": self.configurations.structures(),
            "versions": [asdict(one) for one in self.configurations.versions()],
            "record": self.record.last(),
        }

    def check(self, edited: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is wrong with keys, and the findings about the parts if nothing is."""
        found = self.configurations.problems(edited)
        findings = [] if found else self._trials.check(self.configurations.validated(edited))
        return {
            "problems": [asdict(one) for one in found],
            "findings": [asdict(one) for one in findings],
        }

    def compare(
        self, edited: Mapping[str, Any], version: int, run: str, frame: int, key: str
    ) -> dict[str, Any]:
        """Return what a version and the edited values find in a frame of a derived run."""
        before = self.configurations.config(version)
        after = self.configurations.validated(edited)
        path = tuple(before.tiled.derived.split("/"))
        place = FrameOf(self._uri, key, path, run, frame)
        shown = self._trials.compare(Trial(before, after, place))
        return dict(zip(("before", "after"), map(_as_json, shown), strict=True))

    def save(self, edited: Mapping[str, Any], who: str, note: str) -> dict[str, Any]:
        """Keep the edited values as a new version."""
        return asdict(self.configurations.save(edited, who, now(), note))

    def submit(self, version: int, tasks: int) -> dict[str, Any]:
        """Submit consumers with a version."""
        file = self.configurations.file(version)
        return {"job_id": self.jobs.submit(self.configurations.config(version), file, tasks)}

    def reprocess(self, version: int, run: str, key: str) -> dict[str, Any]:
        """Analyse the raw run of a derived run again with a version."""
        file = self.configurations.file(version)
        raw_uid = self._raw_uid(run, key)
        return {"number": self.jobs.reprocess(self._uri, key, raw_uid, file, version)}

    def _raw_uid(self, run: str, key: str) -> str:
        """Return the raw run of a derived run that this key may read. Raises ConfigError."""
        parts = (*self.configurations.base.tiled.derived.split("/"), run)
        address = f"{self._uri}/metadata/{'/'.join(quote(part, safe='') for part in parts)}"
        try:
            answer = httpx.get(
                address, params={"fields": "metadata"}, headers={"Authorization": f"Apikey {key}"}
            ).raise_for_status()
            start = answer.json()["data"]["attributes"]["metadata"]["start"]
            return str(start["gixi"]["raw_uid"])
        except (httpx.HTTPError, KeyError, TypeError) as error:
            message = f"the server shows this key no derived run {run}"
            raise ConfigError(message) from error


def _as_json(shown: TriedFrame) -> dict[str, Any]:
    n_phi, n_q = shown.polar_image.shape
    return {
        "image": base64.b64encode(shown.polar_image.astype("<f4").tobytes()).decode(),
        "grid": {"qMax": shown.q_max, "nPhi": n_phi, "nQ": n_q},
        "peaks": [_part(row, _PEAK_COLUMNS) for row in shown.peaks],
        "matches": [_part(row, _MATCH_COLUMNS) for row in shown.matches],
        "seconds": shown.seconds,
    }


def _part(row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    """Return columns of a row in JSON types, NaN as null."""
    values = {name: row[name] for name in columns}
    plain = {name: v.item() if hasattr(v, "item") else v for name, v in values.items()}
    return {
        name: None if isinstance(v, float) and not math.isfinite(v) else v
        for name, v in plain.items()
    }
