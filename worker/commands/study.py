"""How are the paper's analyses run from the command line?"""

from dataclasses import replace
from pathlib import Path

import click


@click.command()
@click.argument("kind", type=click.Choice(["scaling", "transfer", "supervision", "resolution"]))
@click.argument("config", default="small")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The study's folder; resumes what is there."
)
@click.option("--photos", type=click.Path(path_type=Path), help="Authentic photos to forge from (manifest.jsonl).")
@click.option("--manifest", type=click.Path(path_type=Path), help="Images with labels and masks to learn from.")
@click.option("--start", type=click.Path(path_type=Path), help="Begin every training with this checkpoint.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where decoded photos are kept.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of every stage, instead of the configuration's.")
@click.option("--seed", type=int)
def study(kind: str, config: str, out: Path, steps: int | None, **options: object) -> None:
    """Run one of the paper's analyses with the stages of CONFIG and end in a plot.

    scaling: data size against score. transfer: what each domain gains or loses by another. supervision: with and
    without masks. resolution: native tiles against one downsized picture.
    """
    from worker.defakerone.errors import DetectorError
    from worker.defakerone.manifest import ManifestError
    from worker.defakerone.training.forgery.photos import PhotoError
    from worker.defakerone.training.settings import SettingsError, read_run
    from worker.defakerone.training.state import TrainingError
    from worker.defakerone.training.study import run_study

    try:
        if options["start"] is not None:
            options |= {"preset": "", "high_pass_start": False}
        run = read_run(config, options)
        if steps is not None:
            run = replace(run, stages=tuple(replace(s, steps=steps, validate_every=steps) for s in run.stages))
        out.mkdir(parents=True, exist_ok=True)
        rows = run_study(kind, run, out)
    except (SettingsError, TrainingError, PhotoError, ManifestError, DetectorError) as error:
        raise click.ClickException(str(error)) from error
    for row in rows:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in sorted(row["scores"].items()) if name != "pictures")
        click.echo(f"{row['label']}: {shown}")
    click.echo(f"plot: {out / (kind + '.png')}")
