"""Words and rules, pure: no files, no network, no database, no torch.

errors            every error raised on purpose, as one tree
ids               identifiers and model names
roles             roles × permissions, as one table
access            scopes, grants, callers, keys
sign_in           what signing in at an identity provider takes and gives
audit             entries chained by their hashes
costs             prices, amounts, budgets
quotas            how much a project may have at once
scheduling        whose job is next: fair between projects
tenancy           subscription, hub, location, provider, connection
files             an uploaded file and its states
jobs              a fine-tuning job and the one table of its legal transitions
hyperparameters   every knob of a job in one table; "auto" → numbers
models            tuned models and checkpoints
deployments       a deployment, its states, and what it may be asked to be
limits            requests and tokens a minute, by token buckets
policies          content filter policies, and what they make of what was found
records           objects kept as they were told: uploads, batches, stored answers, webhooks
traffic           what is remembered of answers that ended
capture           what of a deployment's traffic is kept
drift             how far traffic has moved away from the training data
datasets          what rows of training data look like
tracing           which request a piece of work belongs to
"""
