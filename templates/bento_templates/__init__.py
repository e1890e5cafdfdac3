"""Text out of data: Dockerfiles and compose files from Jinja templates.

Every value goes through a filter that makes it data in the language it stands in; a template that
names a value which it was not given is an error.
"""

from __future__ import annotations

import json
from functools import cache

import jinja2

__all__ = ["TemplateValueError", "render"]


class TemplateValueError(ValueError):
    """A value cannot stand in the file that it was meant for."""


def render(name: str, **context: object) -> str:
    """The text of a template.

    Args:
        name: path of the template below this package, such as `docker/Dockerfile.j2`.
        context: every value that the template names.

    Raises:
        TemplateValueError: a value has a line break or a NUL where the file's language has none.
        jinja2.UndefinedError: the template names a value that it was not given.
    """
    return _environment().get_template(name).render(**context)


def docker_value(value: str) -> str:
    """A double-quoted value of ENV, LABEL or ARG: nothing in it is expanded."""
    _require_one_line(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def docker_list(items: list[str] | tuple[str, ...]) -> str:
    """The JSON form of COPY, CMD, ENTRYPOINT and HEALTHCHECK: no shell takes part."""
    for item in items:
        _require_one_line(item)
    return json.dumps(list(items), ensure_ascii=False)


def docker_word(value: str) -> str:
    """A bare word: an image reference, a package, a path without spaces or quotes."""
    if not value or not value.isprintable() or any(c in value for c in " \t\"'\\$`;&|<>(){}*?!#"):
        raise TemplateValueError(f"{value!r} cannot stand in a Dockerfile as one word")
    return value


def comment(value: str) -> str:
    """Text behind `# `, on one line whatever it holds."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def yaml_value(value: object) -> str:
    """A YAML flow value; `$` is doubled, so that Compose substitutes nothing in it."""
    return json.dumps(_doubled(value), ensure_ascii=True, sort_keys=True)


def _doubled(value: object) -> object:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {_doubled(key): _doubled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_doubled(item) for item in value]
    return value


def _require_one_line(value: str) -> None:
    if any(c in value for c in "\n\r\0\u2028\u2029\x0b\x0c\x85"):
        raise TemplateValueError(f"{value!r} has a line break or a NUL, which a Dockerfile cannot hold")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bento_templates", ""),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # these are no web pages; each value has a filter of its own
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        docker_value=docker_value,
        docker_list=docker_list,
        docker_word=docker_word,
        comment=comment,
        yaml=yaml_value,
    )
    return environment
