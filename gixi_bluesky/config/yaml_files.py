"""YAML files read as data, with bounds."""

from __future__ import annotations

from pathlib import Path

import yaml

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.provenance import open_regular

__all__ = ["read_yaml"]

_MAX_BYTES = 4 << 20
_MAX_VALUES = 100_000  # aliases written out


def read_yaml(path: Path) -> object:
    """Return what a YAML file says.

    Raises ConfigError for a file that cannot be read, is no YAML, or holds too much; the message
    does not repeat its content.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            message = f"{path} has more than {_MAX_BYTES} bytes; expected a configuration"
            raise ConfigError(message)
        tree = yaml.safe_load(content.decode("utf-8"))
        if _n_values(tree) > _MAX_VALUES:
            message = f"{path} holds more than {_MAX_VALUES} values; expected a configuration"
            raise ConfigError(message)
    except OSError as error:
        message = f"cannot read the configuration {path}: {error.strerror}"
        raise ConfigError(message) from error
    except yaml.MarkedYAMLError as error:
        # Without the line itself, which may hold a key.
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        message = f"{path} is not valid YAML: {error.problem or error.context}{where}"
        raise ConfigError(message) from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, ConfigError):
            raise
        message = f"{path} is not valid YAML: {type(error).__name__}"
        raise ConfigError(message) from None
    return tree


def _n_values(tree: object) -> int:
    """Return how many values a tree has once its aliases are written out.

    Raises RecursionError for a tree that holds itself.
    """
    counted: dict[int, int] = {}

    def count(node: object) -> int:
        if not isinstance(node, dict | list | tuple | set):
            return 1
        if id(node) not in counted:
            inside = (*node.keys(), *node.values()) if isinstance(node, dict) else tuple(node)
            counted[id(node)] = 1 + sum(count(one) for one in inside)
        return counted[id(node)]

    return count(tree)
