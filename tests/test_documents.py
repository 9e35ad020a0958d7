"""The documents are true of the project: commands parse, targets, links and names exist, the worked examples run."""

import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml
from click.testing import CliRunner

from nbcore.__main__ import cli
from nbcore.data import load
from nbcore.data.manifest import list_manifests, load_manifest
from nbcore.data.phantom.twins import write_twin
from nbcore.methods.registry import METHODS, MethodClasses
from nbcore.paths import NOTEBOOKS, ROOT
from nbcore.profiles import PROFILE_NAMES, notebooks
from nbcore.settings import load_settings, parse_assignments, settings_class

OURS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/adding.md", "docs/results.md")]
OTHERS = [ROOT / "docs/records/README.md", *sorted((ROOT / "data_manifests").rglob("README.md"))]
ADDING = (ROOT / "docs/adding.md").read_text(encoding="utf-8")
INVENTED = ("siglip", "ward", "mine")  # names of the worked examples

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home|root|tmp|mnt|Users|var)/|\b[A-Z]:\\")


def shell_lines(text: str) -> Iterator[str]:
    """Every command of a document, in a block or inline, without the remark behind it."""
    told = [line for language, block in _BLOCK.findall(text) if language in ("", "bash") for line in block.splitlines()]
    told += _INLINE.findall(_BLOCK.sub("", text))
    for line in told:
        yield re.split(r"\s{2,}|\s#", line.strip())[0].removeprefix(".venv/bin/")


def commands(path: Path, start: str) -> list[str]:
    return [line for line in shell_lines(path.read_text(encoding="utf-8")) if line.startswith(start)]


def outside_code(text: str) -> str:
    return _INLINE.sub("", _BLOCK.sub("", text))


def heading_anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leaves(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield from leaves(command) if isinstance(command, click.Group) else [command]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict]:
    """Click's reading of a command line, with nothing executed."""
    seen: list[dict] = []
    for command in leaves(cli):
        monkeypatch.setattr(command, "callback", lambda **values: seen.append(values))

    def read(line: str) -> dict:
        outcome = CliRunner().invoke(cli, shlex.split(line)[3:])
        assert outcome.exit_code == 0, f"{line}: {outcome.output}"
        return seen[-1]

    return read


@pytest.mark.parametrize("path", [*OURS, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse_and_name_what_there_is(path, parsed, monkeypatch):
    monkeypatch.setitem(METHODS, "siglip", METHODS["convirt"])
    for line in commands(path, "python -m nbcore "):
        values = parsed(line)
        if "notebook" in values:
            assert values["notebook"] in [*notebooks(), "all"], line
            assert values["profile"] in PROFILE_NAMES, line
            for name in notebooks() if values["notebook"] == "all" else [values["notebook"]]:
                load_settings(name, values["profile"], parse_assignments(list(values["assignments"])))
        elif "name" in values:
            name = values["name"]  # or a word to fill in
            assert name.isupper() or name in [*list_manifests(), "all", *INVENTED], line


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_settings_that_are_named_exist(path):
    known = {"key"}.union(*(settings_class(name).model_fields for name in notebooks()))
    assert set(re.findall(r"-p '?(\w+)=", path.read_text(encoding="utf-8"))) <= known


def test_the_newcomers_commands_are_among_them():
    told = commands(ROOT / "README.md", "python -m nbcore ")
    assert len(told) >= 15
    for command in leaves(cli):
        assert any(f" {command.name}" in line for line in told), command.name


@pytest.mark.parametrize("line", ["python -m nbcore run mflag --profil demo", "python -m nbcore data shew kermany"])
def test_a_wrong_command_is_noticed(line, parsed):
    with pytest.raises(AssertionError):
        parsed(line)


@pytest.mark.parametrize("path", [*OURS, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_modules_and_scripts_exist(path):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in shell_lines(path.read_text(encoding="utf-8")):
        words = line.split()
        while words and "=" in words[0]:
            words.pop(0)
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        if words[:2] == ["python", "-m"] and words[2].startswith(("nbcore", "tests")):
            module = ROOT / words[2].replace(".", "/")
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), line
        if words[:1] == ["python"]:
            given = [word for word in words[1:] if re.match(r"(tests|notebooks|nbcore)/", word)]
            assert all((ROOT / word).exists() for word in given), line


@pytest.mark.parametrize("path", [*OURS, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_images_and_anchors_lead_somewhere(path):
    text = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in heading_anchors(target), link


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    """In the worked examples and in file names with a NAME to fill in, the folder does."""
    for told in _INLINE.findall(_BLOCK.sub("", path.read_text(encoding="utf-8"))):
        if not re.fullmatch(r"(?:nbcore|tests|notebooks|data_manifests|docs|results/published)/[\w./*-]*", told):
            continue
        if re.search(r"NAME|NOTEBOOK|\*", told) or any(name in told for name in INVENTED):
            told = str(Path(told).parent)
        assert (ROOT / told).exists(), told


@pytest.mark.parametrize("path", [*OURS, ROOT / "CITATION.cff"], ids=lambda path: path.name)
def test_no_path_of_a_machine(path):
    assert _MACHINE_PATH.findall(path.read_text(encoding="utf-8")) == []


def test_readme_is_read_in_five_minutes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    assert all(f"`{name}`" in text for name in [*notebooks(), *PROFILE_NAMES])


def test_every_notebook_and_every_open_profile_is_in_the_table_of_what_it_needs():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| needs in DIR |")[1].split("\n\n")[0]
    needed = {}
    for row in table.splitlines()[2:]:
        left, right = row.strip("| ").split(" | ")
        needed |= {name: set(_INLINE.findall(right)) for name in _INLINE.findall(left)}
    assert needed.keys() == set(notebooks())
    needed["med_unic"] |= needed["mgca"]  # "the same, and ..."
    for name in notebooks():
        settings = load_settings(name, "open", {})
        corpora = set(getattr(settings, "corpus", {}).values())
        if name != "tour":
            assert needed[name] == {each.partition("/")[0] for each in settings.data_sets} | corpora


def test_citation_names_the_version_and_the_papers():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (told["version"], told["license"]) == (project["version"], project["license"])
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    cited = {each["url"] for each in told["references"]}
    assert all(each["authors"] and each["title"] and each["year"] for each in told["references"])
    assert cited == set(re.findall(r"https://arxiv\.org/abs/[\d.]+", (ROOT / "README.md").read_text(encoding="utf-8")))
    sources = {name: (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8") for name in notebooks()}
    named = {name for name, source in sources.items() if any(url in source for url in cited)}
    assert named == sources.keys() - {"tour"}


# --- the worked examples


def example(path: str) -> str:
    """The file of this name in docs/adding.md."""
    return re.search(rf"^\*\*`{re.escape(path)}`\*\*\n\n```\w+\n(.*?)^```$", ADDING, re.DOTALL | re.MULTILINE)[1]


def run_module(name: str, path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType(name)
    exec(compile(example(path), path, "exec"), vars(module))
    monkeypatch.setitem(sys.modules, name, module)
    package, _, leaf = name.rpartition(".")
    if package:
        monkeypatch.setattr(sys.modules[package], leaf, module, raising=False)
    return module


def test_the_worked_method_passes_its_own_tests_and_can_be_compared(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "methods")
    run_module("nbcore.losses.siglip", "nbcore/losses/siglip.py", monkeypatch)
    method = run_module("nbcore.methods.siglip", "nbcore/methods/siglip.py", monkeypatch)
    ran = []
    for path in ("tests/losses/test_siglip.py", "tests/methods/test_siglip_method.py"):
        tests = vars(run_module(Path(path).stem, path, monkeypatch))
        for name in [name for name in tests if name.startswith("test_")]:
            tests[name]()
            ran.append(name)
    assert len(ran) == 3

    registered = re.search(r"MethodClasses\((.+)\),", ADDING)[1]
    assert registered == "siglip.Config, siglip.Siglip"
    monkeypatch.setitem(METHODS, "siglip", MethodClasses(method.Config, method.Siglip))
    profiles = yaml.safe_load(example("notebooks/profiles/siglip.yaml"))
    assert profiles.keys() == {"smoke", "demo", "open"}
    for values in profiles.values():
        method.Config(**values)
    source = (NOTEBOOKS / "mflag.ipynb").read_text(encoding="utf-8")
    assert "rivals = {" in source
    assert all("titles = {" in (NOTEBOOKS / f"{name}.ipynb").read_text() for name in ("mgca", "med_unic"))


def test_the_worked_data_set_has_a_twin_that_is_read(tmp_path):
    path = tmp_path / "ward.yaml"
    path.write_text(example("data_manifests/ward.yaml"), encoding="utf-8")
    manifest = load_manifest(path)
    assert manifest.is_private
    write_twin(manifest, tmp_path / "twin", images=40, size=32, seed=0)
    samples = load(manifest, tmp_path / "twin")
    assert len(samples) == 40
    assert set(samples.table["split"]) == {"train", "valid", "test"}


def test_touch_points_name_registries_that_exist():
    """The words in code style that are names of the package are defined in the file the same row names."""
    for row in re.findall(r"^\| `(nbcore/[^`]+\.py)` \| (.+) \|$", ADDING, re.MULTILINE):
        path, told = row
        if (ROOT / path).is_file():
            source = (ROOT / path).read_text(encoding="utf-8")
            for name in re.findall(r"`(_?[A-Z][A-Za-z_]+)`", told):
                assert name in source, (path, name)
