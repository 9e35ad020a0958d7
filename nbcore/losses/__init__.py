"""The papers' losses: pure functions, tensors in, scalar out. Nothing here imports the rest of the package."""
