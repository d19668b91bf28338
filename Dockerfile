# Everything that `make` needs, at /opt/pretext-bench; it works in the folder that is mounted at /work:
#   docker build -t pretext-bench .
#   docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD:/work" pretext-bench bench MODALITY=histo
# torch brings its own CUDA: the host needs NVIDIA's driver and container toolkit, and nothing at all without a GPU.
FROM python:3.11-slim

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/pretext-bench
ENV PIP_NO_CACHE_DIR=1
# The largest packages by themselves, so that a changed source file does not fetch them again
COPY constraints.txt ./
RUN python -m venv .venv \
    && .venv/bin/pip install --quiet --constraint constraints.txt torch torchvision
# With .git: every result names the commit that computed it
COPY . .
RUN make setup \
    && git config --system --add safe.directory /opt/pretext-bench \
    && chmod -R a+rX .

# A folder `leaderboards` in /work would hide the package of that name
ENV PYTHONPATH=/opt/pretext-bench HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
ENTRYPOINT ["make", "--no-print-directory", "-f", "/opt/pretext-bench/Makefile", "READY=", "PY=/opt/pretext-bench/.venv/bin/python"]
CMD ["bench"]
