"""Decides. One function per user intention; no HTTP in, no SQL out.

plane        what every function here is given: database, blobs, settings, inference servers
access       who is calling; keys
identity     who a token of the identity provider speaks of
issuer       the identity provider's keys and addresses
sign_in      people sent to the identity provider and back
audit        who changed what: one line for every change
costs        prices, what is charged when, estimates, reports
budgets      how much a project may spend
quotas       how much a project may have at once
roles        principals, and the roles they are given
tenancy      subscription, hubs with connections, projects
locations    pools of machines, and which models can be tuned there
providers    what the subscription has registered
doctor       what the machine lacks
files        upload, check, read, delete
datasets     data looked at with a model's eyes, cleaned, split, kept in versions
jobs         submit, list, cancel, pause, resume
naming       rows that name bytes, and bytes that no row names
named_jobs   jobs under names of the client's choice, and the models they registered
estimates    what a job would take, told before it is submitted
validation   between validating_files and queued; "auto" → numbers
reinforcement   the grader and the rows of a job of reinforcement
data_gate    a job's rows read by the content filter
rows         a job's rows as its trainer gets them: split, rendered, counted
specs        from a job to the spec its trainer gets
runs         the workers' side: claim, lease, events, checkpoints, the one terminal state
models       names → base models, tuned models, checkpoints
catalog      base models as people choose them
deployments  names under which models answer
proofs       a deployment can be what it is wanted to be
certificates  a tuned model answers as the trainer's does
admission    who may ask now: limits and queues
model_gate   a tuned model asked harmful things before it may be deployed
inference    which inference servers run, with which adapters
chat         a question to a model
capture      conversations of a deployment that are kept, and made into datasets
drift        whether a deployment's traffic has moved away from its training data
exports      models written for other programs
traffic      answers as they end: what is counted of each
metrics      what was counted, kept and told
policies     content filter policies, and which one a name answers under
blocklists   lists of terms that policies look for
guards       a guard model asked about a prompt or a completion
works        protected works: texts that completions are not to repeat
memorised    training rows that a model knows by heart
overlaps     hashed runs of texts, kept and made ready
moderation   OpenAI's categories of harm
screening    the gate before a model: prompts
gated        the gate behind a model: completions, piece by piece
embeddings   texts as vectors
responses    answers to items, kept
conversations  items under one id, which responses go on from
compaction   a long conversation in a few sentences
backgrounds  responses that nobody waits for
batches      a file of requests in, files of answers out
resume_points  checkpoints from which another machine goes on
trackers     a job's figures for an experiment tracker
evals        OpenAI's evals, their runs and items
eval_runs    runs of evals brought to their end
grading      a grade of a sample, by whatever grader
head_reports  how well a job's head tells labels or values
evaluations  models asked the same held-out rows, and compared
promotions   another model under a deployment's name, once it has shown enough
promotion_rules  what it must show
sweeps       several sets of hyperparameters over one dataset
likelihoods  how likely a row's answer is under a model
asking       a request to our own endpoints from inside
crowd        many pieces of work, a few at once
kept         records that live through states
addresses    what others chose and this server calls
webhooks     who wants to hear of what, and telling them
texts        tokens of texts
tools        which calls are asked of a model, and those it makes
stored       chat completions that are kept
uploads      large files in parts
containers   files sent to an address that is signed, to become a version of a dataset
permissions  which projects may use a checkpoint
replays      a create that is sent twice makes one thing
caretaker    what has to happen without anybody asking
"""
