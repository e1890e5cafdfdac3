"""A Dockerfile by a template of the project's own: what it may say."""

from __future__ import annotations

import pytest

from bento_templates.own_dockerfile import problem_of

BASE = "{% extends bento_base_template %}\n"


def own(block: str) -> str:
    """A template whose only instruction is that of one block."""
    return f"{BASE}{{% block SETUP_BENTO_BASE_IMAGE %}}{block}{{% endblock %}}"


@pytest.mark.parametrize(
    "block",
    [
        "RUN id",
        "{{ super() }}",
        "{{ bento__path }}",
        "{% set n = 3 %}{% for i in range(n) %}{{ i }}{% endfor %}",
        "{% raw %}{{ x }}{% endraw %}",
    ],
)
def test_what_a_template_may_say(block: str) -> None:
    assert problem_of(own(block)) is None


@pytest.mark.parametrize(
    ("template", "line", "message"),
    [
        ("FROM x", None, "expected `{% extends bento_base_template %}`"),
        ("\n{% extends 'docker/Dockerfile.j2' %}", 2, "extends another template"),
        (f"{BASE}{{% block A %}}{{% endblock %}}", 2, "no block 'A'"),
        (own("{{ request }}"), None, "nothing is called 'request' here"),
        (own("{{ x.y( }}"), 2, "not a template: "),
    ],
)
def test_what_a_template_may_not_say(template: str, line: int | None, message: str) -> None:
    found = problem_of(template)

    assert found is not None
    assert found[0] == line
    assert found[1].startswith(message)
