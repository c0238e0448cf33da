"""The Celery side: the app, its tasks, and the pipeline that takes one batch from bytes to findings."""
