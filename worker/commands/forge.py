"""How are training forgeries written to disk from the command line?"""

import os
from pathlib import Path

import click


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-n", "--count", type=click.IntRange(min=1), required=True, help="How many pictures to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same files.")
@click.option("--split", type=click.Choice(["all", "train", "validation"]), default="all", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; one for each CPU by default.")
def forge(photos: Path, out: Path, count: int, seed: int, split: str, workers: int | None) -> None:
    """Synthesise forgeries with exact masks from the authentic PHOTOS (a folder with manifest.jsonl) into OUT.

    About two in five pictures stay authentic and travel the same platforms. Files do not depend on --workers.
    """
    from worker.defakerone.manifest import ManifestError
    from worker.defakerone.training.forgery.corpus import CorpusError, CorpusJob, PhotoError, write_corpus

    job = CorpusJob(photos, out, count, seed, split)
    try:
        with click.progressbar(length=count, label="Forging") as bar:
            for done in write_corpus(job, workers or os.cpu_count() or 1):
                bar.update(done - bar.pos)
    except (CorpusError, PhotoError, ManifestError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count} pictures and {out / 'manifest.jsonl'}")
