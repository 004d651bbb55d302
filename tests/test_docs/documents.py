"""The project's pages as data: their fenced blocks, their commands, their headings and links."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a newcomer follows: every command in these is run, or says why it is not.
GUIDES = [ROOT / "README.md", ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "demo" / "MODEL_CARD.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_MARK = re.compile(r"<!-- not run: (.*?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int
    not_run: str | None

    @property
    def commands(self):
        """Each command with the output that is shown below it."""
        found = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
        return found


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    found, fence, mark = [], None, None
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if fence is not None:
            if line.strip() == fence[0]:
                text = textwrap.dedent("\n".join(fence[3]) + "\n")
                found.append(Block(language=fence[1], text=text, line=fence[2], not_run=mark))
                fence = mark = None
            else:
                fence[3].append(line)
        elif opened := re.match(r" *(`{3,})(\w*)$", line):
            fence = (opened.group(1), opened.group(2), number, [])
        elif line.strip():
            marked = _MARK.fullmatch(line.strip())
            mark = marked.group(1) if marked else None
    assert fence is None, f"{name_of(page)}:{fence[2]} opens a block that never ends"
    return found


def marks(page):
    """How many blocks of the page say that they are not run."""
    return len(_MARK.findall(page.read_text()))


def anchors(page):
    """What can be linked to within a page, as the usual renderers name it."""
    lines, inside = [], False
    for line in page.read_text().splitlines():
        inside ^= line.lstrip().startswith("```")
        if not inside and (heading := re.match(r"#+ (.*)", line)):
            text = re.sub(r"[`*]", "", heading.group(1)).strip().lower()
            lines.append(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return set(lines)


def links(page):
    """Targets of links and pictures that point into the repository."""
    outside_code = re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^```.*?^```", "", page.read_text()))
    targets = re.findall(r"\]\(([^)\s]+)\)", outside_code)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]
