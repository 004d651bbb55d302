"""What somebody reads who typed something that is not quite a command."""

import pytest

from flows.cli.main import main
from flows.cli.typed.arguments import spelt_out
from tasks.errors import SettingsError


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """`typed("plan --sheet my.csv")` is the exit code and what was said, on both streams."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        monkeypatch.setattr("sys.argv", ["headstart", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("name", ["my.csv", "my.xlsx", "s3://bucket/my.parquet", "demo", "-"])
def test_the_bare_name_of_a_sheet_is_the_sheet(name):
    assert spelt_out([name, "model=demo", "what"]) == [f"sheet={name}", "model=demo", "what"]


def test_any_file_that_is_there_is_a_sheet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").write_text("")
    assert spelt_out(["prompts", "others"]) == ["sheet=prompts", "others"]


def test_two_sheets_are_refused():
    with pytest.raises(SettingsError, match=r"2 sheets are named, \['a.csv', 'b.csv'\]; one batch has one sheet"):
        spelt_out(["a.csv", "b.csv"])


def test_a_verb_takes_the_bare_name(typed, tmp_path):
    (tmp_path / "my.csv").write_text("identity,prompt\nstar,a red star grows\nstar,a red star shrinks\n")
    code, said = typed("plan my.csv store=store")
    assert (code, "my.csv: 2 rows, 1 priors" in said) == (0, True), said
    assert typed("config other.csv") == (0, typed("config sheet=other.csv")[1])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("plan --sheet my.csv", "there is no option --sheet; settings are written without dashes: sheet=my.csv; "),
        ("plan --sheet=my.csv", "there is no option --sheet; settings are written without dashes: sheet=my.csv; "),
        ("run --num-steps 4", "written without dashes: schedule.num_inference_steps=4; `headstart run --help`"),
        ("run --seed", "written without dashes: seed=...; "),
        ("run --quite", "there is no option --quite (did you mean --quiet?); `headstart run --help` lists all"),
        ("run -s x", "there is no option -s, and settings are written as key=value, without dashes: sheet=my.csv; "),
        (
            "run --only x",
            "invalid value for '--only': 'x' is not one of 'all', 'priors', 'variants'; see `headstart run",
        ),
        ("runn", "no such command 'runn' (did you mean 'run'?); see `headstart --help`"),
        ("store show", "missing argument 'key'; see `headstart store show --help`"),
    ],
)
def test_what_is_no_option_is_told_with_what_is(typed, line, told):
    code, said = typed(line)
    assert code == 2
    assert said.startswith("headstart: ")
    assert told in said


def test_a_group_of_verbs_alone_is_answered_with_its_help(typed):
    code, said = typed("store")
    assert (code, said.startswith("Usage: headstart store")) == (2, True)


def test_the_versions_in_use(typed):
    from importlib.metadata import version

    code, said = typed("--version")
    assert code == 0
    assert said.startswith(f"headstart {version('headstart-video')} (Python 3.")
    for name in ("torch", "diffusers", "prefect"):
        assert f"{name} {version(name)}" in said
