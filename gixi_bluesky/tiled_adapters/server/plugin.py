"""The server plugin: fast queries, and a check of paths; importing this module registers both."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from tiled.catalog.adapter import CatalogNodeAdapter

import gixi_bluesky.tiled_adapters.server.asset_paths  # noqa: F401 - it checks what is served
from gixi_bluesky.tiled_adapters.client.fast_queries import PeakNear, PhaseReached, bins_between

__all__: list[str] = []

# The summary of a run that has ended, and of one that goes on.
_SUMMARIES = ("stop.gixi", "gixi_live")


def _peak_near(query: PeakNear, tree: Any) -> Any:
    # Searching the list of positions would cost ten times as much; the client checks it anyway.
    values = {f"bin_{k}": name for k, name in enumerate(bins_between(query.lowest, query.highest))}
    if not values:
        anywhere = {
            "sqlite": "json_extract(nodes.metadata, '$.{summary}.q_bins') IS NOT NULL",
            "postgresql": "nodes.metadata #> string_to_array('{summary}.q_bins', '.') IS NOT NULL",
        }
        return _where(tree, anywhere, [""], {})
    conditions = {
        "sqlite": "json_extract(nodes.metadata, '$.{summary}.q_bins.' || :{value}) IS NOT NULL",
        "postgresql": "nodes.metadata #> string_to_array('{summary}.q_bins.' || :{value}, '.')"
        " IS NOT NULL",
    }
    return _where(tree, conditions, list(values), values)


def _phase_reached(query: PhaseReached, tree: Any) -> Any:
    values = {"slug": query.slug, "probability": query.probability}
    conditions = {
        "sqlite": "json_extract(nodes.metadata, '$.{summary}.phases.\"' || :{value} || "
        "'\".max_probability') >= :probability",
        "postgresql": "CAST(nodes.metadata #>> string_to_array('{summary}.phases.' || :{value} || "
        "'.max_probability', '.') AS double precision) >= :probability",
    }
    return _where(tree, conditions, ["slug"], values)


def _where(tree: Any, conditions: dict[str, str], names: list[str], values: dict[str, Any]) -> Any:
    """Narrow the tree to runs for which the condition holds with one of these values."""
    condition = conditions[tree.context.engine.url.get_dialect().name]
    any_of = " OR ".join(
        condition.format(summary=summary, value=name) for summary in _SUMMARIES for name in names
    )
    clause = text(f"({any_of})").bindparams(**values)
    return tree.new_variation(conditions=[*tree.conditions, clause])


CatalogNodeAdapter.register_query(PeakNear, _peak_near)
CatalogNodeAdapter.register_query(PhaseReached, _phase_reached)
