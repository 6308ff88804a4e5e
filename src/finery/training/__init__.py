"""One fine-tune, from a folder with `spec.json` to a folder with a tuned model. Knows no database, no HTTP, no secrets.

spec         what a trainer is told and how it answers (the only module here without torch)
run          the process: reads the spec, answers with events and an exit status
session      one attempt: puts the parts below together
events       the lines of events.jsonl
spans        the lines of spans.jsonl: how long parts of a run took
tasks        rows of a file → items: tokens, weights, targets
batches      items → batches of one step → passes; the order of an epoch
objectives   a pass → a loss: language modelling, preferences, drawn answers, heads
policy       rewards → advantages → the loss of a drawn token
optimizers   gradients → new weights
schedules    the learning rate of a step
references   what the reference model of preferences says, computed once
loop         steps, validation, early stopping
head_reports what a head got right: figures and calibration, of labels and of values
reinforcement   the loop whose steps draw their own examples
rollouts     prompts → graded answers
sampling     answers drawn from the model
past         keys and values of what is being drawn
checkpoint   the state of a run on disk, and back
results      the measured rows: results.csv
estimate     memory and time, measured
ranks        several processes that train as one

model        transformers' model with our pieces in it
lora         low-rank adapters
attention    attention within documents of a packed row
packing      documents → one row
"""
