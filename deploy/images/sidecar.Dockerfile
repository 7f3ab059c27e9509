# What injected pods run, as init container and as proxy, and what gateways run: the agent, Envoy and iptables.
#   docker build -f deploy/images/sidecar.Dockerfile -t pypilot-sidecar:0.1.0 .
# Envoy is that of the proxy's image, which is built first.
ARG PROXY_IMAGE=pypilot-proxy:0.1.0
# May have iptables and ip already; else Debian's are put into it.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
# An image of the same Python to build in, where pip needs more than that one has (an index or certificates of one's own).
ARG BUILD_IMAGE=${PYTHON_IMAGE}

FROM ${PROXY_IMAGE} AS proxy

FROM ${BUILD_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/pypilot
WORKDIR /src
COPY pyproject.toml ./
# Of what pypilot needs, no more than the agent does: the group names it, the versions are those of everybody.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -c 'import re, tomllib; \
t = tomllib.load(open("pyproject.toml", "rb")); p = t["project"]; \
print(*[d for d in p["dependencies"] + p["optional-dependencies"]["cli"] \
        if re.match(r"[\w-]+", d)[0] in t["dependency-groups"]["agent"]], sep="\n")' > /tmp/requirements.txt \
    && /tools/bin/pip --python /opt/pypilot/bin/python install --compile --only-binary=:all: -r /tmp/requirements.txt
COPY README.md LICENSE ./
COPY deploy deploy
COPY pypilot pypilot
RUN --mount=type=cache,target=/root/.cache/pip \
    /tools/bin/pip --python /opt/pypilot/bin/python install --compile --no-deps . \
    && cd / && /opt/pypilot/bin/python -c 'import pypilot.proxy.agent, pypilot.proxy.render, pypilot.cli.proxy' \
    && /opt/pypilot/bin/pypilot iptables --dry-run > /dev/null
# The command by which injected pods hold their application back, in images of Istio's, too.
RUN ln -s pypilot /opt/pypilot/bin/pilot-agent

FROM ${PYTHON_IMAGE}
RUN command -v iptables-restore > /dev/null && command -v ip > /dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends iptables iproute2 \
    && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/*; }
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="pypilot-sidecar" \
      org.opencontainers.image.description="Envoy with its agent, for pods that pypilot injects and for gateways" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/pypilot/pypilot" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=proxy /usr/local/bin/envoy /usr/local/bin/envoy
COPY --from=proxy /usr/share/doc/envoy /usr/share/doc/envoy
COPY --from=proxy /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /opt/pypilot /opt/pypilot
# All bytecode is there; the file system may be read-only.
ENV PATH=/opt/pypilot/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Whom the rules of interception leave alone; the init container says that it wants root.
USER 1337:1337
WORKDIR /
EXPOSE 15001 15006 15020 15021 15090
ENTRYPOINT ["pypilot"]
CMD ["--help"]
