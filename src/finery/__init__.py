"""Finery: the fine-tuning service of Azure AI Foundry and OpenAI, on your own machines.

The map is in docs/architecture.md. Folders, low to high:

    core, settings                words and rules · every setting
    storage, data, modeling       rows and bytes · training data · base models, templates, adapters
    safety, evaluation            allow or refuse · did it help
    training, serving             weights out · tokens out
    control                       decides; one function per user intention
    api, studio, worker, sdk      HTTP in · the browser · the worker process · the thin client
    bootstrap, cli                wiring · commands
"""

__version__ = "0.1.0"
