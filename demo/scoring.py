"""How good is a model at routing: the held-out tickets, the answers to them, and both models side by side.

An answer counts only if it is the queue's name and nothing else. It knows a chat endpoint, not what is behind it.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.markup import escape
from rich.table import Table
from screen import bar, console

MAX_ANSWER_TOKENS = 12
"""The longest queue name has 7 tokens."""
QUESTIONS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """A held-out ticket: what the model is asked, and where the ticket belongs."""

    prompt: list[dict[str, str]]
    """System prompt and the customer's message."""
    queue: str

    @property
    def text(self) -> str:
        """What the customer wrote."""
        return self.prompt[-1]["content"]


def read_tickets(path: Path) -> list[Ticket]:
    """The tickets of a chat JSONL file, the answer taken off each."""
    rows = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
    return [Ticket(prompt=messages[:-1], queue=messages[-1]["content"]) for messages in rows]


def evaluate(client: OpenAI, models: dict[str, str], tickets: list[Ticket]) -> list[list[str]]:
    """The answers of each model (what it is called here → its name) to each ticket, several questions at once."""
    answers = []
    with bar() as progress, ThreadPoolExecutor(QUESTIONS_AT_ONCE) as pool:
        for called, model in models.items():
            task = progress.add_task(f"Asking {called}", total=len(tickets), note="")
            given = []
            for answer in pool.map(partial(ask, client, model), tickets):
                given.append(answer)
                progress.advance(task)
            answers.append(given)
    return answers


def ask(client: OpenAI, model: str, ticket: Ticket) -> str:
    """A model's answer to a ticket, without any chance in it."""
    messages: Any = ticket.prompt
    completion = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=MAX_ANSWER_TOKENS
    )
    return completion.choices[0].message.content or ""


def is_right(answer: str, queue: str) -> bool:
    """Only the queue's name itself counts, whatever its case and the space around it."""
    return answer.strip().lower() == queue


def accuracy(tickets: list[Ticket], answers: list[str]) -> float:
    """Share of tickets routed to their queue, in percent."""
    return 100 * sum(is_right(a, t.queue) for t, a in zip(tickets, answers, strict=True)) / len(tickets)


def report(tickets: list[Ticket], base: list[str], tuned: list[str]) -> float:
    """Print both models' results side by side; returns the difference in points."""
    before, after = accuracy(tickets, base), accuracy(tickets, tuned)
    console.print(f"{len(tickets)} held-out tickets; right is only the exact name of the right queue.")
    table = Table("base", "tuned", "difference")
    table.add_row(f"{before:.1f} %", f"{after:.1f} %", f"[bold]{after - before:+.1f} points[/bold]")
    console.print(table)
    queues = {ticket.queue for ticket in tickets}
    named = sum(any(queue in answer.lower() for queue in queues) for answer in base)
    console.print(
        f"The system prompt lists all {len(queues)} queues, so the base could answer; it named one, right or wrong, "
        f"in {named} of {len(tickets)} answers."
    )
    print_examples(tickets, base, tuned)
    return after - before


def print_examples(tickets: list[Ticket], base: list[str], tuned: list[str]) -> None:
    """Some answers of both: of different queues, and the tuned model's mistakes among them."""
    rows = list(zip(tickets, base, tuned, strict=True))
    first_of_queue = {ticket.queue: (ticket, b, t) for ticket, b, t in reversed(rows) if is_right(t, ticket.queue)}
    mistakes = [row for row in rows if not is_right(row[2], row[0].queue)]
    console.print("Some of the answers:")
    table = Table(show_lines=True)
    table.add_column("ticket", ratio=3)
    table.add_column("base", ratio=2)
    table.add_column("tuned", ratio=1, min_width=17)
    for ticket, b, t in [*list(first_of_queue.values())[:4], *mistakes[:2]]:
        verdict = "[green]✓[/green]" if is_right(t, ticket.queue) else f"[red]✗[/red] should be {ticket.queue}"
        table.add_row(escape(ticket.text), escape(b.strip()) + "…", f"{escape(t.strip())} {verdict}")
    console.print(table)
