"""Features to objectives: each method is a Config, a module with `losses(batch)`, and nothing else.

Every difference between a paper and its official code stands in DEVIATIONS.md beside this file.
"""
