"""The order of a batch, without a model: a runner that answers at once and writes down what it was given."""

from contextlib import nullcontext

from flows.graph.driver import Driver
from flows.prepare import prepare
from tasks.making.prior import make_prior
from tasks.making.progress import Progress
from tasks.making.runtime import Runtime
from tasks.making.variant import make_variants
from tasks.planning.work import RowResult
from tests.test_flows.conftest import TINY


class Told(nullcontext):
    """Answers every piece of work as done."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.chunks, self.priors, self.seconds = [], [], seconds

    def submit(self, done, function, *args, look):
        if function is make_prior:
            self.priors.append(args[0].name)
            done([RowResult(kind="prior", key=args[0].key, row_id="", identity=args[0].name, status="done")])
        elif function is make_variants:
            self.chunks.append([work.row_id for work in args[0]])
            done([self.made(work) for work in args[0]])
        else:
            done(len(args[0]))

    def made(self, work):
        return RowResult(
            kind="variant",
            key=work.key,
            row_id=work.row_id,
            identity=work.name,
            status="done",
            seconds={"denoise": self.seconds, "load": 60.0},
        )


class Pool:
    devices = ("cpu",)


def drive(tmp_path, tiny_folder, lines, runner, *more):
    (tmp_path / "s.csv").write_text("\n".join(["id,identity,prompt,base_prompt", *lines]) + "\n")
    prepared = prepare([f"sheet={tmp_path / 's.csv'}", f"model={tiny_folder}", *TINY, f"store={tmp_path}/store", *more])
    runtime = Runtime(store=prepared.store, pool=Pool(), progress=Progress.of(prepared.plan))
    driver = Driver(plan=prepared.plan, context=prepared.context, runtime=runtime, runner=runner, workers=3)
    return driver.drive()


def test_rows_of_one_prior_share_a_task_however_the_sheet_mixes_them(tmp_path, tiny_folder):
    lines = [f"{name}{number},{name},a {name} does {number},a {name}" for number in range(6) for name in ("fox", "owl")]
    told = Told()
    results = drive(tmp_path, tiny_folder, lines, told, "runner.chunk_size=3")
    assert sorted(result.row_id for result in results if result.kind == "variant") == sorted(
        line.split(",")[0] for line in lines
    )
    assert sorted(told.priors) == ["fox", "owl"]
    assert sorted(told.chunks) == [
        ["fox0", "fox1", "fox2"],
        ["fox3", "fox4", "fox5"],
        ["owl0", "owl1", "owl2"],
        ["owl3", "owl4", "owl5"],
    ]


def test_quick_rows_go_many_to_a_task_and_slow_ones_alone(tmp_path, tiny_folder):
    lines = [f"r{number},fox,a fox does {number},a fox" for number in range(200)]
    (tmp_path / "quick").mkdir()
    (tmp_path / "slow").mkdir()
    quick, slow = Told(0.01), Told(20.0)
    drive(tmp_path / "quick", tiny_folder, lines, quick)
    drive(tmp_path / "slow", tiny_folder, lines, slow)
    # Loading the model, a minute here, says nothing of how long a row takes.
    assert max(len(chunk) for chunk in quick.chunks) == 50
    assert [len(chunk) for chunk in slow.chunks] == [1] * 200
