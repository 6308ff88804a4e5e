"""Ready code is code: it parses, whatever the names and texts in it hold."""

import ast
import json
import shlex

import pytest

from finery.studio import snippets

NASTY = 'it\'s "quoted" \\ `$(id)`\n{x} 日本 </script>'


@pytest.mark.parametrize("write", [snippets.openai, snippets.azure])
def test_python_parses_and_says_what_was_asked(write: object) -> None:
    program = write("http://127.0.0.1:8000", NASTY, [{"role": "user", "content": NASTY}], {"max_tokens": 5})  # type: ignore[operator]
    constants = [node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant)]
    assert constants.count(NASTY) == 2
    assert 5 in constants


def test_the_shell_hands_the_body_on_unchanged() -> None:
    command = snippets.curl("http://127.0.0.1:8000", "m", [{"role": "user", "content": NASTY}], {"seed": 1})
    words = shlex.split(command)
    body = json.loads(words[words.index("-d") + 1])
    assert body == {"model": "m", "messages": [{"role": "user", "content": NASTY}], "seed": 1}
