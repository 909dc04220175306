"""What can be imported is what `__all__` says, in every module."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import gixi_bluesky

MODULES = ["gixi_bluesky"] + [
    module.name
    for module in pkgutil.walk_packages(gixi_bluesky.__path__, "gixi_bluesky.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_exported_name_exists_once(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    for member in exported:
        assert getattr(module, member) is not None


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("gixi_bluesky", {"Config", "FrameResult", "Pipeline", "load_config", "__version__"}),
        ("gixi_bluesky.processing", {"Pipeline", "load_detector", "Geometry"}),
        ("gixi_bluesky.callbacks", {"subscribe", "Analysis"}),
        ("gixi_bluesky.tiled_adapters", {"GIXIRun", "queries", "DerivedRunStore"}),
    ],
)
def test_the_public_names_are_where_the_readme_says(package, names):
    module = importlib.import_module(package)
    assert names <= set(module.__all__)
    assert names <= set(dir(module))


@pytest.mark.parametrize(
    "package",
    ["gixi_bluesky", "gixi_bluesky.processing", "gixi_bluesky.callbacks"],
)
def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        importlib.import_module(package).nonsense  # noqa: B018
