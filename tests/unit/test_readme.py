"""The documents speak of this code: commands, links, the map, the example."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

from certd import config
from certd.cli.main import COMMANDS

HERE = Path(__file__).parents[2]
README = (HERE / "README.md").read_text(encoding="utf-8")
MAP = (HERE / "certd/README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*HERE.glob("*.md"), *HERE.glob("[a-z]*/*.md")])
# The modules of these rooms are named together: one file a command, one file a component.
NAMED_TOGETHER = {"cli": set(COMMANDS), "testing": None}


def section(text: str, heading: str) -> str:
    """From a heading to the next of its level or above."""
    level = heading.partition(" ")[0]
    _, found, after = text.partition(f"\n{heading}\n")
    assert found, heading
    # Behind an empty line: a comment in an example looks alike.
    return re.split(rf"\n\n#{{1,{len(level)}}} ", after, maxsplit=1)[0] + "\n"


def block(text: str, language: str) -> str:
    """The first fenced block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, language
    return found[1]


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    path = tmp_path / "certd.toml"
    example = block(section(README, "## Five minutes to a certificate"), "toml")
    path.write_text(example, encoding="utf-8")
    found = config.load(path)
    assert found.certificates.keys() == {"www"}
    # What the text says to take out of comments later is good as well.
    path.write_text(example.replace("# reload", "reload").replace("# verify", "verify"))
    assert config.load(path).targets["web"].verify


def test_every_command_is_in_the_table_and_no_other() -> None:
    rows = first_column(section(README, "## Commands"))
    assert {row.split()[1] for row in rows} == set(COMMANDS)


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings get where Markdown is shown."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(HERE)))
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        page = (document.parent / name).resolve() if name else document
        assert page.exists(), link
        assert not anchor or anchor in anchors(page.read_text(encoding="utf-8")), link


def test_no_document_is_out_of_reach() -> None:
    reached, todo = {HERE / "README.md"}, [HERE / "README.md"]
    while todo:
        document = todo.pop()
        for link in re.findall(r"\]\(([^)\s#]+\.md)", document.read_text(encoding="utf-8")):
            page = (document.parent / link).resolve()
            if not link.startswith("https://") and page not in reached:
                reached.add(page)
                todo.append(page)
    assert set(DOCUMENTS) <= reached


def rooms(folder: Path) -> dict[str, Path]:
    """Modules and packages of a folder, as the map writes them."""
    packages = {f"{path.name}/": path for path in folder.iterdir() if any(path.glob("*.py"))}
    modules = {path.name: path for path in folder.glob("*.py") if path.name != "__init__.py"}
    return packages | modules


def test_the_map_has_every_room_and_no_other() -> None:
    table = section(MAP, "## Rooms").partition("### Inside the rooms")[0]
    assert first_column(table) == rooms(HERE / "certd").keys()


def test_the_map_has_every_module_and_no_other() -> None:
    there = set()
    for room, folder in rooms(HERE / "certd").items():
        if not room.endswith("/"):
            continue
        together = NAMED_TOGETHER.get(folder.name, set())
        if together is not None:
            names = {f"{name}.py" for name in together}
            there |= {f"{room}{name}" for name in rooms(folder).keys() - names}
    assert first_column(section(MAP, "### Inside the rooms")) == there


def test_the_map_has_the_arrows_that_are_checked() -> None:
    contracts = tomllib.loads((HERE / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(item["layers"] for item in contracts["contracts"] if item["type"] == "layers")
    arrows = " ".join(block(section(MAP, "## Arrows"), "").split())
    assert arrows == " > ".join(layers).replace("certd.", "")


def test_the_map_names_functions_that_exist() -> None:
    steps = section(MAP, "## One renewal in nine steps")
    cells = re.findall(r"^\| \d \| .* \| (.*) \|$", steps, re.MULTILINE)
    assert len(cells) == 9
    for name in re.findall(r"`([^`]+)`", " ".join(cells)):
        pkgutil.resolve_name(f"certd.{name}")
