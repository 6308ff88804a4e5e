"""A Modelfile's words give the very prompts that the model's own template gives, or are left out."""

import re
from pathlib import Path

import pytest

from finery.modeling.ollama import Turns, find_turns, modelfile
from finery.modeling.template import ChatTemplate

CONVERSATIONS = [
    [{"role": "user", "content": "Why?"}],
    [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Why is it so?\nTell."}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    ],
]


def played(go: str, messages: list[dict[str, str]]) -> str:
    """The few words of Go's template language that a Modelfile uses, read by other code than wrote them."""
    opening, loop, generation = re.fullmatch(
        r"(?:\{\{ if ne \(index \.Messages 0\)\.Role \"system\" \}\}(.*?)\{\{ end \}\})?"
        r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)",
        go,
        re.DOTALL,
    ).groups()  # type: ignore[union-attr]
    branches = dict(re.findall(r"\{\{ (?:else )?if eq \.Role \"(\w+)\" \}\}(.*?)(?=\{\{ else|\Z)", loop, re.DOTALL))
    said = "".join(branches[m["role"]].replace("{{ .Content }}", m["content"]) for m in messages)
    return ("" if messages[0]["role"] == "system" else opening or "") + said + generation


@pytest.mark.parametrize("manner", ["chatml", "phi3", "llama3"])
def test_the_words_give_the_templates_own_prompts(tokenizer_folders: dict[str, Path], manner: str) -> None:
    template = ChatTemplate.load(tokenizer_folders[manner])
    text = modelfile(template, "model.gguf")
    go = text.split('"""')[1]
    bos = template.decode(template.bos_ids)
    for messages in CONVERSATIONS:
        expected = template.render(messages, add_generation_prompt=True).removeprefix(bos)
        assert played(go, messages) == expected
    assert text.startswith("FROM ./model.gguf\n")
    end = template.tokenizer.id_to_token(template.end_of_turn_id)  # type: ignore[arg-type]
    assert f'PARAMETER stop "{end}"' in text


def test_a_default_system_message_is_kept(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    for path in tokenizer_folders["chatml"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    source = (tmp_path / "chat_template.jinja").read_text()
    default = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}"
    (tmp_path / "chat_template.jinja").write_text(default + source)
    template = ChatTemplate.load(tmp_path)
    turns = find_turns(template)
    assert isinstance(turns, Turns)
    assert turns.opening == "<|im_start|>system\nBe kind.<|im_end|>\n"
    for messages in CONVERSATIONS:
        assert played(turns.to_go(), messages) == template.render(messages, add_generation_prompt=True)


@pytest.mark.parametrize(
    "clever",
    [
        "{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] | upper }}\n{% endfor %}",
        "{% for m in messages[-1:] %}{{ m['content'] }}\n{% endfor %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_does_more_is_left_to_ollama(
    tokenizer_folders: dict[str, Path], tmp_path: Path, clever: str
) -> None:
    for path in tokenizer_folders["chatml"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "chat_template.jinja").write_text(clever)
    text = modelfile(ChatTemplate.load(tmp_path), "model.gguf")
    assert "TEMPLATE" not in text
    assert "# The model's chat template has no equal in Go" in text
