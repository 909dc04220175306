"""The derived run's identity: the same for the same result, another for any other."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gixi_bluesky.provenance import Provenance, derived_uid, file_sha256, result_hash

SETTINGS = st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.booleans())


@given(SETTINGS)
def test_the_order_of_settings_does_not_change_the_hash(settings: dict[str, object]) -> None:
    backwards = dict(reversed(settings.items()))
    assert result_hash(settings) == result_hash(backwards)


@given(SETTINGS, SETTINGS)
def test_other_settings_give_another_hash(one: dict[str, object], other: dict[str, object]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (result_hash(one) == result_hash(other)) is same


def test_a_hash_of_nan_is_refused_because_nan_equals_nothing() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        result_hash({"q_max": float("nan")})


def test_the_derived_uid_is_a_uuid_and_depends_on_each_part() -> None:
    parts = ("raw", "primary", "pe_image", "abc")
    uids = {derived_uid(*parts), derived_uid(*parts)}
    assert len(uids) == 1
    for i in range(4):
        changed = list(parts)
        changed[i] += "x"
        uids.add(derived_uid(*changed))
    uids |= {derived_uid(*parts, attempt) for attempt in (1, 2, 3)}
    assert len(uids) == 7
    assert all(UUID(uid).version == 5 for uid in uids)


def test_moving_a_character_between_parts_gives_another_run() -> None:
    assert derived_uid("a", "bc", "d", "e") != derived_uid("ab", "c", "d", "e")


def test_provenance_survives_json(tmp_path) -> None:
    (tmp_path / "a.cif").write_text("data_a")
    provenance = Provenance(
        version="0.1.0",
        result_hash="0" * 64,
        config={"grid": {"shape": [512, 1024]}},
        geometry={"wavelength_angstrom": 0.6888},
        weights_name="classical",
        weights_sha256="1" * 64,
        cif_sha256={"a": file_sha256(tmp_path / "a.cif")},
    )
    reported = provenance.as_dict()
    assert json.loads(json.dumps(reported)) == reported
    assert reported["cif_sha256"]["a"] == (
        "4719ce4d875ae87e473c5f25292321393a05999dae471f5abec7b55618b803f9"
    )
    assert "numpy" in reported["libraries"]
