"""How is a training run started, watched and resumed from the command line?"""

from pathlib import Path

import click


@click.command()
@click.argument("config")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder; resumes what is there.")
@click.option("--photos", type=click.Path(path_type=Path), help="Authentic photos to forge from (manifest.jsonl).")
@click.option("--manifest", type=click.Path(path_type=Path), help="Images with labels and masks to learn from.")
@click.option("--labelled", type=click.Path(path_type=Path), help="Labelled pictures to mix among forgeries.")
@click.option("--labelled-share", type=click.FloatRange(0, 1), help="Their share of the pictures.")
@click.option("--start", type=click.Path(path_type=Path), help="Begin with this checkpoint instead of random weights.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Folder with a tokenizer, for random weights.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where decoded photos are kept.")
@click.option("--stages", help="Run only these of the configuration's stages, by name, separated by commas.")
@click.option("--seed", type=int)
@click.option("--workers", type=click.IntRange(min=0), help="Processes that draw pictures.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the arithmetic.")
def train(config: str, out: Path, stages: str | None, **options: object) -> None:
    """Train DeFakerOne. CONFIG is small, small-gpu, 2b, tiny, or a .toml file.

    With --start it goes on from weights: `--start DIR --stages masks,verdicts,joint`.
    The same command resumes: a run that was stopped goes on along the same curve. On several GPUs start it with
    `torchrun --nproc-per-node 8 -m worker.commands.train CONFIG ...`.
    """
    from worker.defakerone.errors import DetectorError
    from worker.defakerone.manifest import ManifestError
    from worker.defakerone.training.forgery.photos import PhotoError
    from worker.defakerone.training.settings import SettingsError, choose_stages, read_run
    from worker.defakerone.training.state import TrainingError
    from worker.defakerone.training.trainer import Trainer

    try:
        if options["start"] is not None:
            options |= {"preset": "", "high_pass_start": False}
        checkpoint = Trainer(choose_stages(read_run(config, options), stages), out).train()
    except (SettingsError, TrainingError, PhotoError, ManifestError, DetectorError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"trained: {checkpoint}")


if __name__ == "__main__":
    train()
