"""Tells what is in a text; what follows from it is a policy's (`core.policies`) and `control`'s to say.

normalise    disguises taken off
windows      a long text in overlapping pieces
ngrams       texts as hashed words and pieces of words
encoder      texts as vectors: MiniLM on onnxruntime, where finery[safety] is installed
heads        the trained heads: features → log-odds
classifier   log-odds → severities and detections
lexicon      swear words
overlaps     what texts say word for word, as hashed runs of words
blocklists   exact terms and RE2 expressions
guards       what guard models are asked, and what their answers mean
process      the classifier as a process of its own
filter       the door to that process
"""
