"""A bundle before the validators of RO-Crate and DataCite, without a network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rocrate
from foreign_environment import foreign_environment

pytestmark = pytest.mark.timeout(900)  # packages are installed at the first use

# The validator takes the context from its cache; the library that wrote the crate ships it.
_CACHE_CONTEXT = """
import io, sys
from pathlib import Path
import requests
from rocrate_validator.utils.http import HttpRequester
from urllib3 import HTTPResponse

cache, context = sys.argv[1], Path(sys.argv[2]).read_bytes()
url, kind = "https://w3id.org/ro/crate/1.3/context", {"Content-Type": "application/ld+json"}
session = HttpRequester(cache_path=cache).session
response = requests.Response()
response.status_code, response.url, response._content = 200, url, context
response.headers.update(kind)
response.request = session.prepare_request(requests.Request("GET", url))
response.raw = HTTPResponse(io.BytesIO(context), kind, 200, preload_content=False, request_url=url)
session.cache.save_response(response)
"""

# Recommendations that need facts which were not given: publisher, contact, address and ROR.
_UNKNOWN = {
    "ro-crate-1.3_56.1",
    "ro-crate-1.3_86.2",
    "ro-crate-1.3_89.0",
    "ro-crate-1.3_90.1",
    "ro-crate-1.3_93.0",
}

_DATACITE = """
import json, sys
from datacite import schema45

records = [json.load(open(path)) for path in sys.argv[1:]]
errors = [[error.message for error in schema45.validator.iter_errors(one)] for one in records]
print(json.dumps(errors))
"""


def test_the_crate_passes_the_validator_of_ro_crate(bundle: Path, tmp_path: Path) -> None:
    bin_ = foreign_environment("roc-validator", "roc-validator==0.13.0", alone=True)
    context = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
    cache, report = tmp_path / "cache", tmp_path / "report.json"
    subprocess.run([bin_ / "python", "-c", _CACHE_CONTEXT, cache, context], check=True)
    subprocess.run(
        [
            *(bin_ / "rocrate-validator", "--no-interactive", "validate", "--offline"),
            *("--cache-path", cache, "-l", "recommended", "-f", "json", "-o", report, bundle),
        ],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    found: dict[str, Any] = json.loads(report.read_text())
    assert found["statistics"]["total_passed_checks"] > 100
    issues = {one["check"]["identifier"]: one["message"] for one in found["issues"]}
    assert {one["severity"] for one in found["issues"]} <= {"RECOMMENDED"}, issues
    assert issues.keys() <= _UNKNOWN, issues


def test_the_records_agree_with_the_schema_of_datacite(bundle: Path) -> None:
    bin_ = foreign_environment("datacite", "datacite==1.4.1", alone=True)
    records = sorted(bundle.glob("datacite-[ap]*.json"))
    assert len(records) == 2
    ran = subprocess.run(
        [bin_ / "python", "-c", _DATACITE, *records], check=True, capture_output=True, text=True
    )
    assert json.loads(ran.stdout) == [[], []]
