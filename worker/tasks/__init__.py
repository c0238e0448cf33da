"""Thin Celery tasks around functions that know nothing of Celery."""
