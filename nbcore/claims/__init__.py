"""The papers' claims as tests on our numbers. Wording and thresholds are fixed here, before any number is known."""
