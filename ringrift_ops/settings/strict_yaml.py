"""YAML read so that every mistake comes back with its file and line number (R67)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from ringrift_ops.errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

Model = TypeVar("Model", bound=BaseModel)
Loc = Sequence[str | int]


class YamlError(UsageError):
    """A settings file that cannot be used: every mistake in it on a line of its own."""


class YamlFile:
    """A parsed file: ``data`` (plain dicts, lists, scalars) and where each of its keys stands."""

    def __init__(self, path: Path, error: type[YamlError] = YamlError) -> None:
        """Read ``path``. Raises ``error`` for unreadable text, bad YAML and repeated keys."""
        import yaml

        self.path = path
        self._error = error
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise error(f"{path}: cannot be read as UTF-8 text: {problem}") from problem
        try:
            self._root: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data: object = yaml.safe_load(text)
            self._refuse_repeated_keys(self._root)
        except yaml.MarkedYAMLError as problem:
            line = problem.problem_mark.line + 1 if problem.problem_mark else 1
            raise error(f"{path} line {line}: not valid YAML: {problem.problem}") from problem
        except (yaml.YAMLError, RecursionError) as problem:
            raise error(f"{path}: not valid YAML: {problem}") from problem

    def line(self, loc: Loc) -> int:
        """Return the 1-based line of the key (or list item) at ``loc``, or of its nearest parent."""
        import yaml

        node, line = self._root, 1
        for step in loc:
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == str(step):
                        node, line = value, key.start_mark.line + 1
                        break
                else:
                    return line
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                return line
        return line

    def validate(
        self, model: type[Model], data: object, prefix: Loc = (), valid_keys: Sequence[str] | None = None
    ) -> Model:
        """Return ``data`` as ``model``; mistakes are reported at ``prefix`` + their place in it.

        ``valid_keys``: the keys to name for an unknown one at the top of ``data`` (default: the model's).
        """
        try:
            return model.model_validate(data)
        except ValidationError as problem:
            raise self.mistakes(problem, prefix, valid_keys or list(model.model_fields)) from problem

    def mistakes(self, problem: ValidationError, prefix: Loc, valid_keys: Sequence[str]) -> YamlError:
        """Return one error that tells every mistake of a failed validation, each with its line."""
        from ringrift_ops.settings.names import nearest

        found: list[tuple[int, str]] = []
        for one in problem.errors(include_url=False, include_context=False):
            loc = (*prefix, *one["loc"])
            name = str(loc[-1]) if loc else "file"
            place = ".".join(str(step) for step in loc[:-1])
            line = self.line(loc)
            under = f" under {place}" if place else ""
            if one["type"] == "extra_forbidden":
                known = f"; {nearest(name, valid_keys)}" if len(one["loc"]) == 1 else ""
                found.append((line, f"unknown key {name!r}{under}{known}"))
            else:
                given = "" if one["type"] == "missing" else f" (given: {one['input']!r})"
                found.append((line, f"{name}{under}: {one['msg']}{given}"))
        return self._error("\n".join(f"{self.path} line {line}: {message}" for line, message in sorted(found)))

    def fail(self, loc: Loc, message: str) -> YamlError:
        """Return the error that says ``message`` about the line at ``loc``."""
        return self._error(f"{self.path} line {self.line(loc)}: {message}")

    def _refuse_repeated_keys(self, node: Node | None) -> None:
        import yaml

        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in seen:
                    raise self._error(
                        f"{self.path} line {line}: key {key.value!r} stands already in line {seen[key.value]}"
                    )
                seen[key.value] = line
                self._refuse_repeated_keys(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._refuse_repeated_keys(item)


def read_yaml(
    path: Path, model: type[Model], *, error: type[YamlError] = YamlError, default: Callable[[], Model] | None = None
) -> Model:
    """Return a YAML file as ``model``; an empty file is an empty mapping.

    ``default`` answers for a missing file. Raises ``error`` with file, line and the valid keys.
    """
    if default is not None and not path.exists():
        return default()
    opened = YamlFile(path, error)
    return opened.validate(model, {} if opened.data is None else opened.data)
