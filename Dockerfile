# The worker's image. Python and every package in it are pinned; what builds the wheel stays behind in the first stage.
FROM python:3.13.16-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY durable_llm durable_llm
COPY workflows workflows
COPY activities activities
COPY workers workers
# Packages come as wheels: nothing of theirs is compiled; only the tool that builds our own wheel runs here.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --only-binary=:all: -c constraints.txt '.[worker,otel,s3,postgres,redis,codec,serve]'


FROM python:3.13.16-slim-bookworm

RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin durable
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /tmp

# `docker run IMAGE setup` and the other commands of the command line work as well.
ENTRYPOINT ["durable-llm"]
CMD ["worker"]
