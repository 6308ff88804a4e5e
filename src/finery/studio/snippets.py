"""Ready code for an endpoint, as its documentation would have it. Knows the words of each library, and no page."""

import json
from typing import Any

from starlette.requests import HTTPConnection

Messages = list[dict[str, Any]]


def origin(connection: HTTPConnection) -> str:
    """Where the person reached the server; their programs reach it there as well."""
    return f"{connection.url.scheme}://{connection.url.netloc}"


def openai(address: str, model: str, messages: Messages, options: dict[str, Any] | None = None) -> str:
    """For the `openai` package."""
    arguments = "".join(f"    {name}={_value(value)},\n" for name, value in (options or {}).items())
    return (
        "import os\n\n"
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{address}/v1", api_key=os.environ["FINERY_API_KEY"])\n'
        "answer = client.chat.completions.create(\n"
        f"    model={_value(model)},\n"
        f"    messages={_literal(messages)},\n"
        f"{arguments}"
        ")\n"
        "print(answer.choices[0].message.content)\n"
    )


def azure(address: str, model: str, messages: Messages, options: dict[str, Any] | None = None) -> str:
    """For the `azure-ai-inference` package."""
    arguments = "".join(f"    {name}={_value(value)},\n" for name, value in (options or {}).items())
    return (
        "import os\n\n"
        "from azure.ai.inference import ChatCompletionsClient\n"
        "from azure.core.credentials import AzureKeyCredential\n\n"
        "client = ChatCompletionsClient(\n"
        f'    endpoint="{address}/models",\n'
        '    credential=AzureKeyCredential(os.environ["FINERY_API_KEY"]),\n'
        ")\n"
        "answer = client.complete(\n"
        f"    model={_value(model)},\n"
        f"    messages={_literal(messages)},\n"
        f"{arguments}"
        ")\n"
        "print(answer.choices[0].message.content)\n"
    )


def curl(address: str, model: str, messages: Messages, options: dict[str, Any] | None = None) -> str:
    """For a shell; the body is quoted so that nothing in it is the shell's."""
    body = json.dumps({"model": model, "messages": messages, **(options or {})}, ensure_ascii=False)
    quoted = body.replace("'", "'\\''")
    return (
        f"curl {address}/v1/chat/completions \\\n"
        '  -H "Authorization: Bearer $FINERY_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{quoted}'\n"
    )


def _literal(messages: Messages) -> str:
    rows = "".join(f"        {_object(message)},\n" for message in messages)
    return f"[\n{rows}    ]"


def _object(message: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{_value(name)}: {_value(value)}" for name, value in message.items()) + "}"


def _value(value: Any) -> str:
    """As people write it in Python: texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
