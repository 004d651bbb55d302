"""The reference says all that there is: verbs, options, settings, columns, errors; and links lead somewhere."""

import ast
import re

import pytest
from test_docs.documents import PAGES as ALL_PAGES
from test_docs.documents import ROOT, anchors, links, name_of

from docs.generate import FOLDER, PAGES, main, text_of, walk_commands


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says_now(name):
    assert (FOLDER / name).read_text() == text_of(name), "stale; run: make docs-write"


def test_the_check_finds_a_stale_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("docs.generate.FOLDER", tmp_path)
    assert main([]) == 0
    assert main(["--check"]) == 0
    page = tmp_path / "config.md"
    page.write_text(page.read_text().replace("schedule.sigma_shift", "schedule.shift"))
    assert main(["--check"]) == 1
    assert "config.md" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)


def in_code(page):
    """All that stands in backticks at the start of a line, of a list item or of a table row."""
    text = (FOLDER / page).read_text()
    return {name for line in text.splitlines() if re.match(r"[|\-`]", line) for name in re.findall(r"`([^`]+)`", line)}


def test_every_verb_and_option_stands_in_the_reference_with_its_meaning():
    import typer

    from flows.cli.main import app

    page = (FOLDER / "cli.md").read_text()
    sections = dict(re.findall(r"(?ms)^## (headstart .*?)\n(.*?)(?=^## |\Z)", page))
    walked = [(path, command) for path, command in walk_commands(typer.main.get_command(app), "headstart")][1:]
    assert set(sections) == {path for path, _ in walked}
    for path, command in walked:
        assert command.help, f"{path} says nothing of itself"
        if not getattr(command, "commands", None):
            assert f"$ {path}" in sections[path], f"{path} has no example"
        for parameter in command.params:
            if parameter.name == "help":
                continue
            names = parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
            for name in names:
                assert re.search(rf"(?m)^- .*`{name}`.*: \S", sections[path]), f"{path} {name} has no line"


def test_every_setting_and_choice_stands_in_the_reference_with_its_meaning():
    from flows.compose import GROUPS, choices, known_settings

    page = (FOLDER / "config.md").read_text()
    for key, field in known_settings():
        assert field.description, f"{key} says nothing of itself"
        assert f"| `{key}` |" in page
    for group in GROUPS:
        (line,) = re.findall(rf"(?m)^\| `{group}` \| (.*) \|$", page)
        assert re.findall(r"`([^`]+)`", line) == choices(group)


def test_every_column_stands_in_the_reference():
    from prior_store.manifest.schema import COLUMNS as MANIFEST
    from tasks.sheets.columns import COLUMNS as SHEET

    assert set(SHEET) <= in_code("sheet.md")
    assert all(column.meaning for column in SHEET.values())
    assert {name for name, *_ in MANIFEST} <= in_code("manifest.md")
    assert all(meaning for *_, meaning in MANIFEST)


def public_errors():
    """Every class of the four packages that is named an error and not private, found in the source."""
    for package in ("flows", "tasks", "prior_engine", "prior_store"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and re.fullmatch(r"[A-Z]\w*Error", node.name):
                    yield node.name


def test_every_error_has_its_paragraph_and_every_paragraph_its_error():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    paragraphs = dict(re.findall(r"(?m)^### (\w+)\n\n(.+)", page))
    errors = list(public_errors())
    assert len(errors) > 30, "the search found the errors"
    assert sorted(paragraphs) == sorted(errors)
    assert all(len(text) > 30 for text in paragraphs.values())


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(page)} links to {link}; there are {sorted(anchors(target))}"


def test_every_page_of_the_docs_is_linked_from_another():
    linked = {
        (page.parent / link.partition("#")[0]).resolve() for page in ALL_PAGES for link in links(page) if link[0] != "#"
    }
    alone = [
        name_of(page) for page in ALL_PAGES if page not in linked and page.name not in {"README.md", "CHANGELOG.md"}
    ]
    assert alone == []
