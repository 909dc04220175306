"""Queries that no client of ours would ask: answered 400, and wide ones are cheap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiled.structures.core import Spec

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.client.fast_queries import MAX_BINS, bins_between
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer, embedded_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder: Path = tmp_path_factory.mktemp("served")
    with embedded_server(folder) as running:
        catalogue = running.catalog("gixi")
        for number, q in enumerate((0.5, 2.5)):
            summary = {"q_bins": {bins_between(q, q)[0]: 1}, "peak_q": [q]}
            catalogue.create_container(
                f"run-{number}",
                metadata={
                    "start": {"uid": f"run-{number}", "time": number, "gixi": {}},
                    "stop": {"gixi": summary},
                },
                specs=[Spec("BlueskyRun", "3.0")],
            )
        catalogue.create_container(
            "without",
            metadata={"start": {"uid": "without", "time": 9, "gixi": {}}, "stop": {"gixi": {}}},
            specs=[Spec("BlueskyRun", "3.0")],
        )
        yield running


def ask(server: EmbeddedServer, name: str, **parameters: str) -> Any:
    conditions = {f"filter[{name}][condition][{key}]": value for key, value in parameters.items()}
    http = server.client().context.http_client
    return http.get(f"{server.uri}/search/gixi", params=conditions)


@pytest.mark.server
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gixi_peak_near", {"lowest": "nan", "highest": "1"}),
        ("gixi_peak_near", {"lowest": "0", "highest": "inf"}),
        ("gixi_peak_near", {"lowest": "-inf", "highest": "inf"}),
        ("gixi_peak_near", {"lowest": "2", "highest": "1"}),
        ("gixi_peak_near", {"lowest": "0", "highest": "1e300"}),
        ("gixi_peak_near", {"lowest": "one", "highest": "1"}),
        ("gixi_peak_near", {"lowest": "1"}),
        ("gixi_phase_reached", {"slug": "a", "probability": "nan"}),
        ("gixi_phase_reached", {"slug": "a", "probability": "x"}),
        ("gixi_phase_reached", {"slug": "a') OR 1=1 --", "probability": "0.5"}),
        ("gixi_phase_reached", {"slug": "a" * 10_000, "probability": "0.5"}),
        ("gixi_phase_reached", {"probability": "0.5"}),
    ],
)
def test_what_is_no_query_is_answered_400(
    server: EmbeddedServer, name: str, parameters: dict[str, str]
) -> None:
    answer = ask(server, name, **parameters)
    # FastAPI answers 422 for what is no number at all.
    assert answer.status_code in (400, 422), answer.text
    assert "got" in answer.json()["detail"] or answer.status_code == 422


@pytest.mark.server
def test_a_wide_range_of_q_is_one_condition_and_right(server: EmbeddedServer) -> None:
    catalogue = server.catalog("gixi")
    found = queries.with_peak(catalogue, 2500.0, 2500.0)
    assert {run.metadata["start"]["uid"] for run in found} == {"run-0", "run-1"}
    (near,) = queries.with_peak(catalogue, 2.5, 0.01)
    assert near.metadata["start"]["uid"] == "run-1"
    (half,) = queries.with_peak(catalogue, 0.0, 1.1)
    assert half.metadata["start"]["uid"] == "run-0"


def test_the_number_of_conditions_is_bounded() -> None:
    assert 0 < len(bins_between(0.0, 0.99)) <= MAX_BINS + 2
    assert bins_between(0.0, 5000.0) == []


@pytest.mark.parametrize("q", [float("nan"), float("inf")])
def test_a_client_is_answered_at_once(q: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        queries.with_peak(None, q)
    with pytest.raises(ValueError, match="finite"):
        queries.with_peak(None, 1.0, q)
    with pytest.raises(ValueError, match="finite"):
        queries.with_phase(None, "a", q)
