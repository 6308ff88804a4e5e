"""Did it help? Measures answers, compares models with intervals, grades. Knows no HTTP, no database and no model.

metrics         every metric by its name
matches         answers against references: exact, normalised, by label, by token, by JSON field
similarity      BLEU, ROUGE and their kin, from the libraries of `finery[evaluation]`
classification  precision, recall, F1 and the confusion matrix
likelihood      perplexity and token accuracy
intervals       paired bootstrap and McNemar's test
"""
