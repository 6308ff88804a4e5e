"""OpenAI's API under /v1: its paths, objects, statuses and errors.

wire            Finery's records as OpenAI's objects
sse             server-sent events
logprobs        log-probabilities as OpenAI's objects
compatibility   what differs, as a table
chat_body, responses_body   what can be asked
all others      one module a noun, as in `control`
"""
