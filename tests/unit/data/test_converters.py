"""Converters: what people have becomes rows that preflight passes; what can't be converted is counted and named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidRequest
from finery.data.converters import Columns, Conversion, convert
from finery.data.preflight import check

from .conftest import talk

Write = Callable[..., Path]


def converted(source: Path, **arguments: Any) -> tuple[list[Any], Conversion]:
    result = source.parent / "converted.jsonl"
    made = convert(source, result, **arguments)
    rows = [json.loads(line) for line in result.read_text(encoding="utf-8").splitlines()]
    report = check(result, "fine-tune")
    assert report.ok, report.summary
    assert made.rows == len(rows) == report.rows
    return rows, made


SHAREGPT = {
    "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}],
    "system": "Be kind.",
}
KIND = {"messages": [{"role": "system", "content": "Be kind."}, *talk("Hi", "Hello.")["messages"]]}
PAIR = {
    "input": {"messages": [{"role": "user", "content": "Hi"}]},
    "preferred_output": [{"role": "assistant", "content": "Hello."}],
    "non_preferred_output": [{"role": "assistant", "content": "No."}],
}


@pytest.mark.parametrize(
    ("row", "shape", "wanted"),
    [
        (SHAREGPT, "sharegpt", KIND),
        ({"instruction": "Say hi", "input": "", "output": "Hi."}, "alpaca", talk("Say hi", "Hi.")),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, "alpaca", talk("Add\n\n1 2", "3")),
        (
            {"instruction": "B", "input": None, "output": "b", "history": [["A", "a"]]}, "alpaca",
            {"messages": [*talk("A", "a")["messages"], *talk("B", "b")["messages"]]},
        ),
        ({"prompt": "Hi", "completion": " Hello."}, "completion", talk("Hi", "Hello.")),
        ({"prompt": KIND["messages"][:2], "completion": KIND["messages"][2:]}, "completion", KIND),
        ({"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}, "preference", PAIR),
        (
            {"chosen": talk("Hi", "Hello.")["messages"], "rejected": talk("Hi", "No.")["messages"]}, "preference", PAIR,
        ),
        (
            {"prompt": "Hi", "chosen": talk("Hi", "Hello.")["messages"], "rejected": talk("Hi", "No.")["messages"]},
            "preference", PAIR,
        ),
        (PAIR, "openai-preference", PAIR),
        ({**talk("Hi", "Hello."), "id": 3}, "chat", talk("Hi", "Hello.")),
        ({"question": "Hi", "answer": "Hello."}, "columns", talk("Hi", "Hello.")),
        ({"text": "Hi", "labels": ["a", "b"]}, "multi-label", {"text": "Hi", "labels": ["a", "b"]}),
    ],
)  # fmt: skip
def test_shapes_are_told_by_their_keys(jsonl: Write, row: Any, shape: str, wanted: Any) -> None:
    rows, made = converted(jsonl([row]))
    assert rows == [wanted]
    assert made == Conversion(shape=shape, rows=1, skipped={}, skipped_rows=())


def test_sharegpt_function_calls_become_tool_calls_with_matching_ids(jsonl: Write) -> None:
    tool = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
    row = {
        "tools": json.dumps([tool]),
        "conversations": [
            {"from": "human", "value": "Rain?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Bandung"}}'},
            {"from": "observation", "value": "rain"},
            {"from": "gpt", "value": "Yes."},
        ],
    }
    rows, _ = converted(jsonl([row]))
    call, answer = rows[0]["messages"][1:3]
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"city": "Bandung"}
    assert answer["tool_call_id"] == call["tool_calls"][0]["id"]
    assert rows[0]["tools"] == [{"type": "function", "function": tool}]


def test_unfit_rows_are_left_out_counted_and_numbered(jsonl: Write) -> None:
    bad: list[Any] = [
        {"conversations": []}, {"conversations": [{"from": "alien", "value": "x"}]}, {"conversations": None},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": None}]}, {"other": 1},
    ]  # fmt: skip
    rows, made = converted(jsonl([SHAREGPT, *bad, SHAREGPT]))
    assert rows == [KIND, KIND]
    assert made.skipped_rows == (2, 3, 4, 5, 6)
    assert sum(made.skipped.values()) == 5
    assert "unknown role 'alien'" in made.skipped


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_with_columns(tmp_path: Path, delimiter: str, mark: str) -> None:
    source = tmp_path / "data.csv"
    lines = [["frage", "antwort"], ["Wie, bitte?", '"So; ""ja"" \n genau"'], ["Zwei?", "Ja"], ["kurz"]]
    lines[1][0] = f'"{lines[1][0]}"'
    source.write_text(mark + "\r\n".join(delimiter.join(line) for line in lines), encoding="utf-8", newline="")
    rows, made = converted(source, columns=Columns(user="frage", assistant="antwort"))
    assert rows == [talk("Wie, bitte?", 'So; "ja" \n genau'), talk("Zwei?", "Ja")]
    assert made.skipped_rows == (3,)


def test_csv_of_labels_and_of_numbers(tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_text("query,intent,score\nlost card,card_lost,0.5\ntop up,top_up,-1e3\n", encoding="utf-8")
    rows, _ = converted(source, columns=Columns(text="query", label="intent"))
    assert rows == [{"text": "lost card", "label": "card_lost"}, {"text": "top up", "label": "top_up"}]
    rows, _ = converted(source, columns=Columns(text="query", target="score"))
    assert [row["target"] for row in rows] == [0.5, -1000]


def test_json_array_is_read_in_pieces_whatever_its_spacing(tmp_path: Path) -> None:
    source = tmp_path / "data.json"
    rows = [talk(f"Question {number}", "x" * 3000) for number in range(900)]
    source.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    assert source.stat().st_size > 2 << 20
    assert converted(source)[0] == rows


@pytest.mark.parametrize("content", ["", "{}", "[1, 2", '[{"a": NaN}]', "[" * 5000, '[{"a": 1} garbage', "\xff"])
def test_broken_json_is_refused_in_words(tmp_path: Path, content: str) -> None:
    source = tmp_path / "data.json"
    source.write_text(content, encoding="latin-1")
    with pytest.raises(InvalidRequest):
        convert(source, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_parquet_and_arrow_in_a_folder_give_the_split_that_is_asked_for(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    # One message has a name: Parquet gives every other message a name of null.
    named = {"messages": [{"role": "user", "content": "Hi", "name": "ann"}, {"role": "assistant", "content": "Hello."}]}
    parquet.write_table(pyarrow.Table.from_pylist([named]), folder / "data" / "train-00000-of-00002.parquet")
    table = pyarrow.Table.from_pylist([talk("A", "a")])
    arrow = folder / "data" / "train-00001-of-00002.arrow"
    with pyarrow.OSFile(str(arrow), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    parquet.write_table(pyarrow.Table.from_pylist([talk("T", "t")]), folder / "data" / "test-00000.parquet")
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")
    result = tmp_path / "train.jsonl"
    assert convert(folder, result).rows == 2
    assert [json.loads(line) for line in result.read_text(encoding="utf-8").splitlines()] == [named, talk("A", "a")]
    assert convert(folder, result, split="test").rows == 1
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(InvalidRequest, match=r"broken\.parquet"):
        convert(broken, result)


@pytest.mark.parametrize(
    ("name", "content", "arguments", "words"),
    [
        ("data.csv", "a,b\n1,2\n", {}, "name them with columns"),
        ("data.csv", "a,b\n1,2\n", {"columns": Columns(user="a", assistant="c")}, "no column 'c'"),
        ("data.csv", "a,b\n1,2\n", {"columns": Columns(user="a")}, "Name the columns"),
        ("data.csv", "a,b\n1,2\n", {"shape": "gpt"}, "no shape 'gpt'"),
        ("data.csv", "", {}, "holds none"),
        ("data.csv", 'a,b\n"1,2\n', {"columns": Columns(user="a", assistant="b")}, "CSV"),
        ("data.csv", "a,b\n\xe9,2\n", {}, "UTF-8"),
        ("data.xlsx", "PK", {}, "none of"),
        ("data.jsonl", "nope", {}, "line 1"),
        ("data.csv", "a,b\n,\n", {"columns": Columns(user="a", assistant="b")}, "No row"),
    ],
)
def test_what_can_not_be_converted_is_refused_in_words(
    tmp_path: Path, name: str, content: str, arguments: dict[str, Any], words: str
) -> None:
    source = tmp_path / name
    source.write_text(content, encoding="latin-1")
    with pytest.raises(InvalidRequest, match=words):
        convert(source, tmp_path / "out.jsonl", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_file_and_empty_folder_are_refused(tmp_path: Path) -> None:
    for source in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InvalidRequest):
            convert(source, tmp_path / "out.jsonl")
