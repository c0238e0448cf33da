"""Where do bytes lie? One protocol, local files and S3, deterministic keys."""

from screening.blobs.keys import derived_key, image_key, screening_prefix
from screening.blobs.store import BlobStore, open_store, uri

__all__ = ["BlobStore", "derived_key", "image_key", "open_store", "screening_prefix", "uri"]
