"""Where things are: resolved from the package, never from the caller's working directory."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "data_manifests"
NOTEBOOKS = ROOT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
RESULTS = ROOT / "results"
PUBLISHED = RESULTS / "published"
