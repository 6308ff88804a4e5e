"""A tuned model on the session's server, for the tests that need one and don't care how it was made."""

import json

import pytest

from servers import Server, wait_for

COLOURS = ("red", "green", "blue", "yellow", "black", "white")


@pytest.fixture(scope="session")
def tuned(server: Server) -> str:
    """The name of a tiny Phi-3 tuned on 120 conversations about colours."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"the {colour} ticket is about {colour} number {i}"},
                {"role": "assistant", "content": colour},
            ]
        }
        for i, colour in enumerate(COLOURS * 20)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    client = server.openai()
    file = client.files.create(file=("colours.jsonl", content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny-phi3", training_file=file.id, hyperparameters={"n_epochs": 1, "batch_size": 32}
    )
    return str(wait_for(job, client, "succeeded", seconds=600).fine_tuned_model)
