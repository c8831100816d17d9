"""`hcp model learn-classes|score-classes`: the classifier of workloads, from files of labelled specifications."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.common import print_json, print_table
from hcp_pipelines.domain.errors import ModelError

COLUMNS = (
    "file",
    "which",
    "count",
    "right",
    "right, unstated",
    "by rules",
    "flagged",
    "right, unflagged",
    "confidence off by",
)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def listed() -> dict[str, str]:
    """The shipped classifier as a row of `hcp model list`."""
    from hcp_pipelines.workloads.classifier.model import NAME, shipped  # numpy

    row = {"name": NAME, "version": "shipped", "status": "serves", "digest": "", "trained_until": "", "created_at": ""}
    try:
        found = shipped()
    except ModelError as error:
        return row | {"status": "unfit: rules serve", "actor": "package", "reason": str(error)}
    held_out = found.told.get("held_out", {})
    scores = ", ".join(
        f"{name} {told['accuracy']:.1%} (rules {told['rules_accuracy']:.1%})" for name, told in held_out.items()
    )
    return row | {
        "digest": found.digest[:12],
        "actor": "package",
        "reason": f"right on held-out specifications: {scores}",
    }


@click.command("learn-classes")
@click.argument("lessons", type=_FILE)
@click.option("--held-out", type=_FILE, multiple=True, help="Labelled specifications to score it on; again for more.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A .npz; its digest goes beside it."
)
def learn_classes(lessons: Path, held_out: tuple[Path, ...], seed: int, out: Path) -> None:
    """Learn to tell workloads' classes from LESSONS (NDJSON: spec, label, setting); the same and a seed give the same file."""
    from dataclasses import replace

    from hcp_pipelines.workloads.classifier.learning import learn
    from hcp_pipelines.workloads.classifier.lessons import read_lessons
    from hcp_pipelines.workloads.classifier.model import write
    from hcp_pipelines.workloads.classifier.scores import score

    model = learn(read_lessons(lessons).taken, seed)
    scores = {
        path.stem: asdict(score([each for each in read_lessons(path).taken if each.is_sound], model))
        for path in held_out
    }
    digest = write(out, replace(model, told={**model.told, "held_out": scores}))
    click.echo(f"{out}: {out.stat().st_size:,} bytes, {digest}")


@click.command("score-classes")
@click.argument("held_out", type=_FILE, nargs=-1, required=True)
@click.option("--model", "model_file", type=_FILE, help="A .npz with its digest beside it; else the shipped one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with recall by class and the confusion.")
def score_classes(held_out: tuple[Path, ...], model_file: Path | None, as_json: bool) -> None:
    """Score the classifier on labelled specifications: sound ones, and those that are ambiguous or can't be served."""
    from hcp_pipelines.workloads.classifier.lessons import read_lessons
    from hcp_pipelines.workloads.classifier.model import SHIPPED, read
    from hcp_pipelines.workloads.classifier.scores import score

    model, scores = read(model_file or SHIPPED), []
    for path in held_out:
        taken = read_lessons(path).taken
        for which, is_sound in (("sound", True), ("other", False)):
            part = [each for each in taken if each.is_sound is is_sound]
            if part:
                scores.append({"file": path.stem, "which": which, **asdict(score(part, model))})
    if as_json:
        print_json({"digest": model.digest, "scores": scores})
    else:
        print_table("Classes of workloads, told from specifications", COLUMNS, map(_row, scores))


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    shares = ("accuracy", "accuracy_unstated", "rules_accuracy", "flagged", "accuracy_unflagged", "calibration_error")
    return (told["file"], told["which"], f"{told['count']:,}", *(f"{told[name]:.1%}" for name in shares))
