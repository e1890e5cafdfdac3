"""Text out of data: Dockerfiles and compose files from Jinja templates.

Every value goes through a filter that makes it data in the language it stands in; a template that
names a value which it was not given is an error.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Final

import jinja2

__all__ = ["TemplateValueError", "configured", "label_key", "one_line", "render", "some_lines"]

# BuildKit reads lines of at most 64 KiB, and escaping may double a value.
_MAX_LENGTH: Final = 30_000
_LINE_BREAKS: Final = "\n\r\x0b\x0c\x85\u2028\u2029"
_LINE_BREAK: Final = re.compile(f"[{_LINE_BREAKS}]")
# What YAML allows in a double-quoted text as it is; a line break in one would become a blank.
_NOT_YAML: Final = re.compile(
    "[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
# Plain texts that some reader of YAML takes for a boolean, a number or nothing.
_YAML_WORDS: Final = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


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


def one_line(value: str) -> str:
    """The value itself, where one line of any of these files can hold it.

    Raises:
        TemplateValueError: it has a line break or a NUL, is no text that can be written, or too long.
    """
    if any(c in value for c in _LINE_BREAKS) or "\0" in value:
        raise TemplateValueError("expected one line of text, found a line break or a NUL")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise TemplateValueError("half of a surrogate pair cannot be written to a file")
    if len(value) > _MAX_LENGTH:
        raise TemplateValueError(f"expected at most {_MAX_LENGTH} characters, found {len(value)}")
    return value


def some_lines(value: str) -> str:
    """The value itself, where a text that may have line breaks can hold it.

    Raises:
        TemplateValueError: it has a NUL, is no text that can be written, or too long.
    """
    if "\0" in value:
        raise TemplateValueError("expected text, found a NUL in it")
    one_line(_LINE_BREAK.sub(" ", value))
    return value


def label_key(value: str) -> str:
    """The value itself, where it can be the key of an image's label.

    Raises:
        TemplateValueError: it is empty, or the builder would split it.
    """
    if not value or "=" in value:
        raise TemplateValueError(f"{value!r}: expected a label's key, with at least a character and no `=`")
    return one_line(value)


def docker_value(value: str) -> str:
    """A double-quoted value of ENV, LABEL or ARG: nothing in it is expanded."""
    escaped = one_line(value).replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def docker_list(items: list[str] | tuple[str, ...]) -> str:
    """The JSON form of COPY, CMD, ENTRYPOINT and HEALTHCHECK: no shell takes part."""
    return json.dumps([one_line(item) for item in items], ensure_ascii=False)


def docker_command(words: list[str] | tuple[str, ...]) -> str:
    """The JSON form of RUN: line breaks are part of a word, and no shell but the one it names takes part."""
    text = json.dumps([some_lines(word) for word in words], ensure_ascii=False)
    return _LINE_BREAK.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def docker_word(value: str) -> str:
    """A bare word: an image reference, a package, a path without spaces or quotes."""
    if not value or not value.isprintable() or any(c in value for c in " \t\"'\\$`;&|<>(){}*?!#"):
        raise TemplateValueError(f"{value!r} cannot stand in a Dockerfile as one word")
    return value


def haproxy_word(value: str) -> str:
    """A name or a path in HAProxy's configuration, which has words, quotes and variables of its own."""
    if re.fullmatch(r"[A-Za-z0-9._/-]+", value) is None:
        raise TemplateValueError(f"{value!r} cannot stand in HAProxy's configuration as one word")
    return value


def comment(value: str) -> str:
    """Text behind `# `, on one line whatever it holds."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def yaml_value(value: object) -> str:
    """A YAML flow value; `$` is doubled, so that Compose substitutes nothing in it."""
    text = json.dumps(_doubled(value), ensure_ascii=False, sort_keys=True)
    return _NOT_YAML.sub(lambda found: f"\\U{ord(found[0]):08x}", text)


def yaml_block(value: str, indent: int) -> str:
    """The lines of a literal block of YAML, as Compose hands them on: it substitutes nothing in them.

    Raises:
        TemplateValueError: a character of it cannot stand in YAML as it is.
    """
    if _NOT_YAML.search(value.replace("\n", " ")):
        raise TemplateValueError("expected lines of printable text, found another character")
    return "\n".join(f"{' ' * indent}{line}".rstrip() for line in value.replace("$", "$$").split("\n"))


def yaml_key(value: str) -> str:
    """A YAML key, in quotes only where it needs them; Compose substitutes nothing in keys."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", value) and value.lower() not in _YAML_WORDS:
        return value
    return yaml_value(value).replace("$$", "$")


def _doubled(value: object) -> object:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _doubled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_doubled(item) for item in value]
    return value


@cache
def _environment() -> jinja2.Environment:
    return configured(jinja2.Environment)


def configured(kind: type[jinja2.Environment]) -> jinja2.Environment:
    """An environment of a kind with the templates and filters of this package."""
    environment = kind(
        loader=jinja2.PackageLoader("bento_templates", ""),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # these are no web pages; each value has a filter of its own
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        docker_value=docker_value,
        docker_list=docker_list,
        docker_command=docker_command,
        docker_word=docker_word,
        label_key=label_key,
        haproxy_word=haproxy_word,
        comment=comment,
        yaml=yaml_value,
        yaml_block=yaml_block,
        yaml_key=yaml_key,
    )
    return environment
