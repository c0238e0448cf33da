# The workers: `worker screen` runs the detector, `worker io` sends webhooks and keeps house, `sweeper` rings again.
#   docker build -f docker/worker.Dockerfile -t assay-worker .
# For GPUs (see compose.gpu.yaml):
#   docker build -f docker/worker.Dockerfile -t assay-worker-gpu --build-arg TORCH_INDEX=https://pypi.org/simple .
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
# torch comes first and alone: asked for by another package, pip would choose its own build of it.
RUN /venv/bin/pip install --index-url ${TORCH_INDEX} torch==2.13.0 && /venv/bin/pip install "setuptools>=77" wheel
COPY docker/worker-requirements.txt /tmp/
# --no-deps, so that nothing brings torchvision, whose only builds need CUDA; sam2 is built without its CUDA extension.
RUN SAM2_BUILD_CUDA=0 /venv/bin/pip install --require-hashes --no-deps --no-build-isolation -r /tmp/worker-requirements.txt
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY screening screening
COPY worker worker
COPY migrations migrations
RUN /venv/bin/pip install --no-deps --no-build-isolation -e . && /venv/bin/python -m compileall -q /app

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin assay && install -d -o assay -g assay /var/lib/assay
COPY --from=build /venv /venv
COPY --from=build /app /app
# Weights other than the bundled checkpoint are mounted, and named by ASSAY_WEIGHTS.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 ASSAY_METRICS_PORT=9090
WORKDIR /app
USER 10001:10001
EXPOSE 9090
# That the worker moves is for the metrics to tell (assay_worker_progress_timestamp_seconds against
# assay_oldest_due_seconds); this tells that its parent process answers. The sweeper has no port and switches it off.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/metrics', timeout=4)"]
ENTRYPOINT ["assay"]
CMD ["worker", "screen"]
