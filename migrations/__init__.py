"""Alembic migrations, configured from pyproject.toml ([tool.alembic])."""
