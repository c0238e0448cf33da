# The API: HTTP and the dashboard's pages. No torch.
#   docker build -f docker/api.Dockerfile -t assay-api .
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY docker/api-requirements.txt /tmp/
RUN /venv/bin/pip install --require-hashes --no-deps -r /tmp/api-requirements.txt
RUN /venv/bin/pip install "setuptools>=77" wheel
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY screening screening
COPY api api
COPY migrations migrations
RUN /venv/bin/pip install --no-deps --no-build-isolation -e . && /venv/bin/pip uninstall -y setuptools wheel \
    && /venv/bin/python -m compileall -q /app

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin assay \
    && install -d -o assay -g assay /var/spool/assay /var/lib/assay
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ASSAY_SPOOL_DIR=/var/spool/assay ASSAY_METRICS_PORT=9090
WORKDIR /app
USER 10001:10001
# 8000 is for clients, behind a proxy that speaks TLS; 9090 has the metrics, and is not for them.
EXPOSE 8000 9090
VOLUME ["/var/spool/assay"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["assay"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
