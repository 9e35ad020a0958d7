"""Small records to make report pages of, with figures beside them."""

from pathlib import Path

from PIL import Image

from nbcore.results import DataUse, Figure, Record, Row, aggregate, judge

NIH = {"table": "Table 2", "dataset": "NIH", "metric": "AUC (%)"}


def record(notebook: str = "mflag", profile: str = "demo", **changes) -> Record:
    """A record with numbers of every kind: runs of several seeds, one run, an interval, whole numbers, small ones."""
    geometry = {"table": "Geometry <&>", "dataset": "", "method": "M-FLAG"}
    rows = [
        aggregate([61.04, 63.0, 62.5], **NIH, method="M-FLAG", setting="1%"),
        aggregate([1_070.26, 3], **NIH, method="M-FLAG", setting="10%"),
        aggregate([-0.5], **NIH, method="ConVIRT", setting="1%"),
        aggregate([215], table="Table 1", method="Classification", dataset="MIMIC", setting="train", metric="images"),
        aggregate([0.0123, 0.05], **geometry, setting="", metric="collapse"),
        Row(**geometry, setting="1%", metric="AUC (%)", value=71.5, low=60.25, high=80.0),
    ]
    claims = [
        judge("up", "features & ranks <rise>", "Sect. 1", [1.5, 2, 3], unit="points"),
        judge("down", "ranks fall", "Sect. 2", [-1_500.0, -2, -3], unit="points", threshold=-0.5),
        judge("open", "one seed says little", "Sect. 3", [0.004], unit="of 1"),
    ]
    values = {
        "notebook": notebook,
        "title": f"{notebook} <test>",
        "profile": profile,
        "command": f"python -m nbcore run {notebook} --profile {profile} --seed 0",
        "config": {"threads": 2, "name": "<b>"},
        "seeds": [0, 1, 2],
        "source": "phantom",
        "data": [DataUse(name="busi", source="phantom", fingerprint="f00", counts={"train": 1_234, "missing": 0})],
        "rows": rows,
        "claims": claims,
        "figures": [Figure(name="line", caption="a <line>")],
        "notes": ["a note"],
        "environment": {"torch": "2.0", "commit": "abc"},
        "seconds": 90.0,
        "peak_memory_mib": 1_100.4,
        "complete": True,
    }
    return Record(**{**values, **changes})


def save(root: Path, kept: Record) -> Path:
    """Write a record and its figures to ROOT/profile/notebook; returns the profile's folder."""
    folder = root / kept.profile / kept.notebook
    (folder / "figures").mkdir(parents=True)
    for figure in kept.figures:
        Image.new("RGB", (1500, 300), "teal").save(folder / "figures" / f"{figure.name}.png", dpi=(150, 150))
    (folder / "record.json").write_text(kept.model_dump_json())
    return folder.parent


def site(root: Path) -> Path:
    """The folder of a profile with two papers and the tour."""
    save(root, record("mflag", environment={"torch": "2.0", "commit": "abc"}))
    save(root, record("kmat", environment={"torch": "2.0", "commit": "def"}, seconds=30.0))
    return save(root, record("tour", title="The data sets: a tour", rows=[], claims=[]))
