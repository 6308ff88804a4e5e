"""Did it help? Measures answers, compares models with intervals, grades. Knows no HTTP, no database and no model.

metrics         every metric by its name
matches         answers against references: exact, normalised, by label, by token, by JSON field
similarity      BLEU, ROUGE and their kin, from the libraries of `finery[evaluation]`
classification  precision, recall, F1 and the confusion matrix
calibration     how sure answers were, and how often rightly so
values          predicted values beside actual ones
likelihood      perplexity and token accuracy
intervals       paired bootstrap and McNemar's test
held_out        rows as questions with known answers
comparison      models side by side on the same rows
verdicts        better, worse or no clear difference, in a sentence
report          a comparison as a page, as Markdown
plots           the pictures in it, as SVG
graders         OpenAI's graders: checked, and computed where no model is needed
computed        grades without a model, of whatever kind of grader that has one
evaluators      Foundry's `builtin.` names
templates       `{{ item.x }}` in graders and prompts
formulas        the formula of a multi grader
python_grader   a stranger's `grade`, run in `python_child`, which can only compute
python_child    that process: closes its doors, then grades
probes          general questions, to see what was forgotten
"""
