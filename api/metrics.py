"""How is the API doing? Prometheus figures by route template, without an id or a name in any label."""

from prometheus_client import REGISTRY, Counter, Histogram

__all__ = ["ACCEPTED", "DOORBELL", "PROBLEMS", "REGISTRY", "REQUESTS"]

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)

REQUESTS = Histogram(
    "assay_api_request_seconds", "Seconds from request to answer.", ["method", "route", "status"], buckets=SECONDS
)
ACCEPTED = Counter("assay_api_screenings_accepted_total", "Screenings answered with 202 or 200.", ["source"])
PROBLEMS = Counter("assay_api_problems_total", "Problem documents, by code.", ["code"])
DOORBELL = Counter("assay_api_doorbell_total", "Wake-ups, by whether Redis took them.", ["outcome"])
