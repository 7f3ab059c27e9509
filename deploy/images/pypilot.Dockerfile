# The control plane: docker build -f deploy/images/pypilot.Dockerfile -t pypilot:0.1.0 .
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
# An image of the same Python to build in, where pip needs more than that one has (an index or certificates of one's own).
ARG BUILD_IMAGE=${PYTHON_IMAGE}

FROM ${BUILD_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# pip itself stays behind in this stage.
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/pypilot
WORKDIR /src
# What pypilot needs comes before its source: a changed line installs nothing anew.
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
    > /tmp/requirements.txt \
    && /tools/bin/pip --python /opt/pypilot/bin/python install --compile --only-binary=:all: -r /tmp/requirements.txt
COPY README.md LICENSE ./
COPY deploy deploy
COPY pypilot pypilot
RUN --mount=type=cache,target=/root/.cache/pip \
    /tools/bin/pip --python /opt/pypilot/bin/python install --compile --no-deps . \
    && /tools/bin/pip --python /opt/pypilot/bin/python check

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="pypilot" \
      org.opencontainers.image.description="A lightweight control plane for Envoy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/pypilot/pypilot" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/pypilot /opt/pypilot
# All bytecode is there; the file system may be read-only.
ENV PATH=/opt/pypilot/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
EXPOSE 15010 15012 15014 15017 8080
ENTRYPOINT ["pypilot"]
CMD ["--help"]
