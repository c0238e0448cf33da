"""Migrations that two people wrote at the same time must not both land as the next one."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from migrations import __path__ as folder


def test_every_migration_follows_the_one_before_it() -> None:
    config = Config()
    config.set_main_option("script_location", folder[0])
    script = ScriptDirectory.from_config(config)  # warns where a revision is present twice, which is an error here
    chain = [revision.revision for revision in script.walk_revisions()]
    assert chain == [f"{number:04d}" for number in range(len(chain), 0, -1)]
    assert len(script.get_heads()) == 1
