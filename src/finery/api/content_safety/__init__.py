"""Azure AI Content Safety's API under /contentsafety.

analysis     text:analyze and text:shieldPrompt
blocklists   lists of terms: made, filled, read, emptied
"""
