"""The inference side: one server process for each base model in use, many adapters, tokens out; no database.

protocol        what control plane and inference server say to each other, as dataclasses and JSON
config          the folder of one server: server.json in, ready.json out
remote          the async client of an inference server; all that the control plane needs
process         start, watch and stop one inference server
wire            HTTP to a server on this machine, as streams
server          the inference server itself (HTTP on loopback)
answers         a request in text or chat to tokens, tokens to text; the same for every engine
text            pieces of tokens to whole characters, stop strings found across them
pieces          the bytes that each token spells
schedule        who is decoded next: fair between adapters, in groups of one adapter
neighbours      how busy the machine is with other things
adapter_shelf   which adapters stay in memory
artifacts       model.f16.gguf and adapter.gguf, made on demand, once
lifeline        a child process ends with its parent
parity          do the served model and the trainer's model answer the same; parity_reference is its child with torch
export          a model as adapter, merged weights or GGUF, with a certificate: a child process
export_order    what that child is told
engines         llamacpp (default), torch (reference), vllm (GPUs)
"""
