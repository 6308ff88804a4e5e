"""Azure AI Content Safety's API under /contentsafety.

analysis     text:analyze, text:shieldPrompt, text:detectProtectedMaterial
blocklists   lists of terms: made, filled, read, emptied
"""
