"""Training data: checked, counted, cleaned, split and converted; no torch, no database, no HTTP.

findings        findings, reports and the tables of codes
faults          why a line is not the JSON we take
rows            JSONL as lines and rows, streaming, with caps
preflight       is this upload what its purpose asks for?
clean           preflight's fast path
formats         which format a row has; every format's rules but chat's
messages        the rules of a chat example
tools           the rules of tools in a chat example
texts           what people wrote in a row
tokens          rows against a base model: counted, and refused where they would teach nothing
counting        many rows' tokens, counted without their lists
fast_rendering  a model's chat template, faster, to the very same text
fast_tokenizer  a model's tokenizer, faster, to the very same tokens
literals        any of some texts in a text, found fast
quality         the quality report
corpus          the rows of several files as one sequence, kept on disk
duplicates      exact and near duplicates, and leaks between files
sensitive       personal data and secrets in a text
characters      characters a text should rarely hold
languages       which language a text is in
refusals        answers that refuse
balance         labels, intents and answers that repeat
percentiles     percentiles of lengths
cleaning        named steps, a new file and a record
steps           the steps of cleaning
splits          training and validation rows
converters      what people have, as JSONL
sources         rows out of CSV, Parquet, JSON arrays and folders
"""
