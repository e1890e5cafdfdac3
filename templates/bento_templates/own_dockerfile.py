"""A Dockerfile by a template of the project's own, which extends ours: read and rendered in a sandbox."""

from __future__ import annotations

from functools import cache
from typing import Final

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bento_templates import TemplateValueError, configured

_BASE: Final = "bento_base_template"
_DOCKERFILE: Final = "docker/Dockerfile.j2"
NAMES: Final = frozenset(
    {
        "bento__base_image",
        "bento__home",
        "bento__path",
        "bento__python_version",
        "bento__uid_gid",
        "bento__user",
    }
)
"""What such a template may name, beside the template that it extends."""


def problem_of(text: str) -> tuple[int | None, str] | None:
    """What is wrong with a template before it is rendered, and in which line; None where nothing is."""
    try:
        tree = _sandbox().parse(text)
    except jinja2.TemplateSyntaxError as error:
        return error.lineno, f"not a template: {error.message}"
    for extends in tree.find_all(nodes.Extends):
        if extends.template != nodes.Name(_BASE, "load"):
            return extends.lineno, f"extends another template than `{_BASE}`"
    if next(tree.find_all(nodes.Extends), None) is None:
        return None, f"expected `{{% extends {_BASE} %}}` as its beginning, on which the rest stands"
    blocks = sorted(_sandbox().get_template(_DOCKERFILE).blocks)
    for block in tree.find_all(nodes.Block):
        if block.name not in blocks:
            return block.lineno, f"no block {block.name!r}; there are {', '.join(blocks)}"
    unknown = sorted(meta.find_undeclared_variables(tree) - NAMES - {_BASE})
    if unknown:
        return None, f"nothing is called {unknown[0]!r} here; known: {', '.join(sorted(NAMES))}"
    return None


def render_own(text: str, names: dict[str, str], **context: object) -> str:
    """The Dockerfile.

    Args:
        text: a template with which `problem_of` finds nothing wrong.
        names: the values of `NAMES`.
        context: every value that our own template names.

    Raises:
        TemplateValueError: it cannot be rendered.
    """
    try:
        template = _sandbox().from_string(text)
        return template.render(**names, **context, **{_BASE: _DOCKERFILE})
    except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise TemplateValueError(str(e)) from None


@cache
def _sandbox() -> jinja2.Environment:
    """Templates reach no attribute that is not data, and change nothing that they are given."""
    return configured(ImmutableSandboxedEnvironment)
