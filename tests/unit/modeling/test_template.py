"""Chat templates: the text and ids of transformers, and weights exactly on what a served model will have to say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from finery.core.errors import CorruptArtifact, InvalidRequest
from finery.modeling.template import ChatTemplate, Example

MANNERS = ("chatml", "phi3", "llama3")
USER, ANSWER = {"role": "user", "content": "What is 12 + 30?"}, {"role": "assistant", "content": "It is 42, isn't it?"}
SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATIONS = [
    [USER],
    [SYSTEM, USER],
    [USER, ANSWER],
    [
        SYSTEM,
        USER,
        ANSWER,
        {"role": "user", "content": "Grüße, 東京 🙂"},
        {"role": "assistant", "content": "Hello!\n\nBye."},
    ],
]


@pytest.fixture(params=MANNERS)
def manner(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(manner: str, tokenizer_folders: dict[str, Path]) -> Path:
    return tokenizer_folders[manner]


@pytest.fixture
def template(folder: Path) -> ChatTemplate:
    return ChatTemplate.load(folder)


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_text_and_ids_are_those_of_transformers(folder: Path, messages: list[dict[str, Any]]) -> None:
    template, reference = ChatTemplate.load(folder), AutoTokenizer.from_pretrained(folder)
    for prompt in (False, True):
        wanted = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert template.render(messages, None, prompt) == wanted
    assert template.encode_prompt(messages) == _ids(reference, messages, add_generation_prompt=True)
    assert template.encode_example({"messages": messages}).tokens == _ids(reference, messages)


def test_every_turn_is_trained_with_its_end_and_nothing_else_is(manner: str, template: ChatTemplate) -> None:
    end = {"chatml": "<|im_end|>", "phi3": "<|end|>\n", "llama3": "<|eot_id|>"}[manner]
    assert _trained(template, {"messages": CONVERSATIONS[3]}) == [f"It is 42, isn't it?{end}", f"Hello!\n\nBye.{end}"]
    assert template.end_of_turn_id in template.end_token_ids


def test_pieces_show_the_whole_text(template: ChatTemplate) -> None:
    row = {"messages": CONVERSATIONS[3]}
    assert "".join(piece.text for piece in template.explain(row)) == template.render(row["messages"])


def test_weight_of_a_message_is_the_weight_of_its_tokens(template: ChatTemplate) -> None:
    messages = [
        USER,
        {**ANSWER, "weight": 0},
        USER,
        {**ANSWER, "weight": 0.5},
        USER,
        ANSWER,
        USER,
        {**ANSWER, "weight": None},
    ]
    example = template.encode_example({"messages": messages})
    turns = [example.weights.count(weight) for weight in (0.5, 1.0)]
    assert set(example.weights) == {0.0, 0.5, 1.0}
    assert turns[1] == 2 * turns[0]


words = st.text(st.characters(codec="utf-8", exclude_characters="<|>▁"), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.tuples(words, words), min_size=1, max_size=3))
def test_trained_rows_begin_with_the_prompts_that_are_served(
    template: ChatTemplate, said: list[tuple[str, str]]
) -> None:
    messages = []
    for question, answer in said:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        example = template.encode_example({"messages": messages})
        prompt = template.encode_prompt(messages[:-1])
        assert example.tokens[: len(prompt)] == prompt
        assert example.weights[len(prompt)] == 1
        last = max(i for i, weight in enumerate(example.weights) if weight)
        assert example.tokens[last] == template.end_of_turn_id
        assert example.weights[len(prompt) : last + 1] == [1.0] * (last + 1 - len(prompt))
        assert template.decode(example.tokens[len(prompt) : last]).strip() == _spelled(template, answer).strip()


def test_batches_give_what_single_rows_give_and_errors_in_their_places(template: ChatTemplate) -> None:
    rows: list[dict[str, Any]] = [{"messages": messages} for messages in CONVERSATIONS]
    rows.insert(2, {"messages": [{"role": "wizard", "content": "Abracadabra"}]})
    rows.append({"prompt": "2 + 2 =", "completion": " 4"})
    results = template.encode_examples(rows)
    assert isinstance(results[2], InvalidRequest)
    assert "wizard" in results[2].message
    assert [r for r in results if isinstance(r, Example)] == [
        template.encode_example(r) for r in rows if r is not rows[2]
    ]


def test_completions_end_with_the_end_of_text(manner: str, template: ChatTemplate) -> None:
    example = template.encode_completion("The quick brown", " fox jumps")
    assert _said(template, example).strip() == f"fox jumps{template._special['eos_token']}"
    prompt = template.encode_text("The quick brown")
    assert example.tokens[: len(prompt)] == prompt
    assert example.weights[: len(prompt)] == [0.0] * len(prompt)


def test_preferences_train_the_outputs_only(template: ChatTemplate) -> None:
    row = {
        "input": {"messages": [USER, ANSWER, USER]},
        "preferred_output": [{"role": "assistant", "content": "42."}],
        "non_preferred_output": [{"role": "assistant", "content": "Who knows."}],
    }
    preferred, other = template.encode_preference(row)
    prompt = template.encode_prompt(row["input"]["messages"])
    for example in (preferred, other):
        assert example.tokens[: len(prompt)] == prompt
        assert not any(example.weights[: len(prompt)])
        assert all(example.weights[len(prompt) : len(prompt) + 2])


def test_beginning_of_text_is_there_once(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    llama = ChatTemplate.load(tokenizer_folders["llama3"])
    bos = llama.special_token_id("bos_token")
    assert llama.encode_prompt([USER]).count(bos) == 1
    assert llama.encode_text("plain").count(bos) == 1
    shutil.copytree(tokenizer_folders["llama3"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}<|eot_id|>")
    ids = ChatTemplate.load(tmp_path).encode_prompt([USER])
    assert ids.count(bos) == 1
    assert ids[0] == bos


def test_a_tokenizer_file_that_cuts_or_pads_does_neither(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tokenizer_folders["chatml"], tmp_path, dirs_exist_ok=True)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    row = {"messages": CONVERSATIONS[3]}
    assert ChatTemplate.load(tmp_path).encode_example(row) == ChatTemplate.load(
        tokenizer_folders["chatml"]
    ).encode_example(row)


def test_refused_roles_are_named(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    strict = """\
{% for m in messages %}
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}
{%- endfor %}
{% if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""
    template = _with_template(tokenizer_folders["chatml"], tmp_path, strict)
    with pytest.raises(InvalidRequest, match=r"messages\[2\].*assistant.*roles must alternate") as caught:
        template.render([USER, ANSWER, ANSWER])
    assert caught.value.param == "messages[2]"
    assert _trained(template, {"messages": [USER, ANSWER]}) == ["It is 42, isn't it?<|im_end|>"]


def test_templates_that_count_ahead_are_still_masked(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    """The rendering of a beginning is no beginning of the whole: what is said is found by a marked content."""
    counting = (
        "{{ messages | length }}:{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endfor %}"
    )
    template = _with_template(tokenizer_folders["chatml"], tmp_path, counting)
    row = {"messages": [USER, ANSWER, USER, {"role": "assistant", "content": "Is it?"}]}
    assert _trained(template, row) == ["It is 42, isn't it?<|im_end|>", "Is it?<|im_end|>"]
    template = _with_template(tokenizer_folders["chatml"], tmp_path, counting.replace("<|im_end|>", ";"))
    assert _trained(template, row) == ["It is 42, isn't it?", "Is it?;"]


def test_templates_without_end_tokens_train_the_whole_turn(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    plain = (
        "{% for m in messages %}{{ m.role | upper + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    )
    template = _with_template(tokenizer_folders["chatml"], tmp_path, plain)
    assert template.end_of_turn_id is None
    row = {"messages": [USER, ANSWER, USER, {"role": "assistant", "content": "Yes."}]}
    assert _trained(template, row) == [" It is 42, isn't it?\n", " Yes.\n"]


def test_a_template_that_leaves_words_out_is_not_trained_with(
    tokenizer_folders: dict[str, Path], tmp_path: Path
) -> None:
    no_system = "{% for m in messages if m.role != 'system' %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    template = _with_template(tokenizer_folders["chatml"], tmp_path / "a", no_system)
    with pytest.raises(InvalidRequest, match=r"leaves out messages\[0\]"):
        template.encode_example({"messages": [SYSTEM, USER, ANSWER]})
    mute = "{% for m in messages if m.role == 'user' %}{{ m.content + '<|im_end|>' }}{% endfor %}!"
    template = _with_template(tokenizer_folders["chatml"], tmp_path / "b", mute)
    with pytest.raises(InvalidRequest, match=r"messages\[1\] can't be found"):
        template.encode_example({"messages": [USER, ANSWER]})


TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}]
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 12}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "42"}
NATIVE = """\
{% if tools %}{% for tool in tools %}{{ '<tool>' + (tool | tojson) }}{% endfor %}{% endif %}
{% for m in messages %}
{{- '<|im_start|>' + m.role + '\n' + (m.content or '') }}
{%- for call in m.tool_calls or [] %}{{ '<call>' + (call.function | tojson) }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def test_templates_that_know_tools_get_them(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    template = _with_template(tokenizer_folders["chatml"], tmp_path, NATIVE)
    messages = [USER, CALL, RESULT, ANSWER]
    arguments = {"name": "add", "arguments": {"a": 12}}
    reference = AutoTokenizer.from_pretrained(tmp_path)
    as_objects = [USER, {**CALL, "tool_calls": [{"function": arguments}]}, RESULT, ANSWER]
    assert template.render(messages, TOOLS) == reference.apply_chat_template(as_objects, tools=TOOLS, tokenize=False)
    said = _trained(template, {"messages": messages, "tools": TOOLS})
    assert said == [f"<call>{json.dumps(arguments)}<|im_end|>", "It is 42, isn't it?<|im_end|>"]


@pytest.mark.parametrize("first", [[], [SYSTEM]])
def test_templates_that_know_no_tools_have_them_spelled_out(
    template: ChatTemplate, first: list[dict[str, Any]]
) -> None:
    row = {"messages": [*first, USER, CALL, RESULT, ANSWER], "tools": TOOLS}
    prompt = template.render(row["messages"][: len(first) + 1], TOOLS, True)
    assert json.dumps(TOOLS[0]["function"]) in prompt
    call, answer = _trained(template, row)
    assert call.startswith('<tool_call>{"name": "add", "arguments": {"a": 12}}</tool_call>')
    assert answer.startswith("It is 42")
    old = {"messages": [*first, USER, {"role": "assistant", "function_call": CALL["tool_calls"][0]["function"]}]}
    assert _trained(template, {**old, "functions": [TOOLS[0]["function"]]}) == [call]


def test_parts_are_joined_and_images_are_named(template: ChatTemplate) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "input_text", "text": "12 + 30?"}]
    assert template.render([{"role": "user", "content": parts}]) == template.render([USER])
    assert template.render([{**SYSTEM, "role": "developer"}, USER]) == template.render([SYSTEM, USER])
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.content\[0\].*image_url"):
        template.render([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.json"):
        ChatTemplate.load(tmp_path)


def _trained(template: ChatTemplate, row: dict[str, Any]) -> list[str]:
    """The trained texts of a row, one an unbroken run."""
    runs: list[str] = []
    before = False
    for piece in template.explain(row):
        if piece.weight and before:
            runs[-1] += piece.text
        elif piece.weight:
            runs.append(piece.text)
        before = piece.weight > 0
    return runs


def _said(template: ChatTemplate, example: Example) -> str:
    return template.decode([t for t, w in zip(example.tokens, example.weights, strict=True) if w])


def _spelled(template: ChatTemplate, text: str) -> str:
    """Text through the tokenizer and back: what of it the vocabulary can say."""
    return template.decode(template.tokenizer.encode(text, add_special_tokens=False).ids)


def _with_template(folder: Path, target: Path, source: str) -> ChatTemplate:
    shutil.copytree(folder, target, dirs_exist_ok=True)
    (target / "chat_template.jinja").write_text(source)
    return ChatTemplate.load(target)


def _ids(reference: PreTrainedTokenizerFast, messages: list[dict[str, Any]], **options: Any) -> list[int]:
    ids: list[int] = reference.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
    return ids
