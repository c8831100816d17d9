"""Documentation that can be checked: generated pages are fresh, links lead somewhere, commands exist."""

import re
import subprocess
from pathlib import Path

import click
import pytest

from hcp_pipelines.settings import Settings
from tests import regenerate_docs, regenerate_wire

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|work|workspace|mnt|Users|srv|opt)/[\w.]")
COMMANDS = dict(regenerate_docs.commands())

of_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_of(page: Path) -> str:
    """Code spans and fenced blocks, a line each."""
    text = page.read_text()
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return "\n".join([*FENCE.findall(text), *spans])


def headings_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as the common renderers make them."""
    titles = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_generated_pages_are_fresh():
    assert regenerate_docs.stale() == [], "run `make docs`"


def test_generated_wire_code_is_fresh():
    assert regenerate_wire.is_fresh(), "run `make docs`"


def test_every_setting_says_what_it_means():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_setting_is_read():
    rooms = ("hcp_pipelines", "assets", "sensors", "jobs")
    sources = [p for room in rooms for p in (ROOT / room).rglob("*.py") if p.name != "settings.py"]
    text = "\n".join(path.read_text() for path in sources)
    unread = [name for name in Settings.model_fields if not re.search(rf"\.{name}\b", text)]
    assert unread == []


@of_each_page
def test_relative_links_lead_to_a_file_of_the_repository(page):
    wrong = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        inside = path.is_relative_to(ROOT) and path.exists()
        if not inside or (anchor and anchor not in headings_of(path)):
            wrong.append(target)
    assert wrong == []


def test_pages_named_in_code_exist():
    sources = [
        p for room in ("hcp_pipelines", "simulators", "assets", "sensors", "jobs") for p in (ROOT / room).rglob("*.py")
    ]
    named = {name for path in sources for name in re.findall(r"docs/[\w/-]+\.md", path.read_text())}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@of_each_page
def test_no_page_names_a_path_of_a_machine(page):
    text = page.read_text()
    assert MACHINE_PATH.findall(text) == []
    assert str(ROOT) not in text


@of_each_page
def test_every_command_named_exists(page):
    for words in re.findall(r"(?:^|[\s/`])hcp((?: +[^\s`|&;#]+)+)", code_of(page), re.MULTILINE):
        refuse_unknown_words(words.split())


def refuse_unknown_words(words: list[str]) -> None:
    """Judge a command line: known command, known options; stops at the first word that can't be a command's."""
    path: tuple[str, ...] = ("hcp",)
    while words and isinstance(COMMANDS[path], click.Group) and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        path = (*path, words.pop(0))
        assert path in COMMANDS, f"no command {' '.join(path)}"
    if path == ("hcp", "bench"):
        return
    known = {name for p in (path, ("hcp",)) for parameter in COMMANDS[p].params for name in parameter.opts} | {"--help"}
    for word in words:
        option = word.split("=")[0].rstrip(",.)")
        assert not option.startswith("--") or option in known, f"{' '.join(path)} has no option {option}"


@of_each_page
def test_every_make_target_named_exists(page):
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|[\s`])make ([a-z][\w-]*)", code_of(page), re.MULTILINE))
    assert named <= targets


@of_each_page
def test_every_setting_named_exists(page):
    known = {f"HCP_{name.upper()}" for name in Settings.model_fields} | regenerate_docs.INTERNAL_NAMES
    assert set(re.findall(r"HCP_[A-Z]\w*", page.read_text())) <= known


@of_each_page
def test_every_test_file_named_exists(page):
    named = set(re.findall(r"tests/[\w/]+\.py", page.read_text()))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_make_help_lists_every_described_target():
    described = re.findall(r"^([a-z][\w-]*):.*## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = shown.stdout.splitlines()
    assert len(lines) == len(described)
    assert max(map(len, lines)) <= 100
    for name, about in described:
        assert f"  make {name:<12} {about}" in lines
