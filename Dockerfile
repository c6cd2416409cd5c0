# syntax=docker/dockerfile:1
# The gateway and LiteLLM in one image: an environment in /opt/neev on a base with nothing but Python. `make image`
# builds it with both bases pinned by digest.
#
#   docker run -e NEEV_API_KEY=sk-nc-... -p 4000:4000 -v neev:/var/lib/neev-gateway IMAGE

ARG BUILD_IMAGE=docker.io/library/debian:12-slim
# Python 3.11 of Debian 12, as in the first stage: the same interpreter at the same place. No package manager.
ARG RUNTIME_IMAGE=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
# Debian's own archive of that release; security updates are wanted, so no version is named.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3.11-venv ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY requirements-build.lock requirements-image.lock pyproject.toml README.md LICENSE proxy_config.yaml ./
COPY image image
COPY neev_provider neev_provider
# An index of your own goes in as a secret file: --secret id=pip,src=$HOME/.config/pip/pip.conf
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/var/cache/pip \
    PIP_CACHE_DIR=/var/cache/pip sh image/assemble.sh /out

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG RUNTIME_IMAGE
LABEL org.opencontainers.image.title="neev-gateway" \
      org.opencontainers.image.description="NeevAI's Model Routing API for a whole team" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
COPY --from=build /out/opt/neev /opt/neev
COPY --from=build /out/etc/neev-gateway /etc/neev-gateway
COPY --from=build --chown=65532:65532 /out/var/lib/neev-gateway /var/lib/neev-gateway
ENV PATH=/opt/neev/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /var/lib/neev-gateway
EXPOSE 4000 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python3", "-I", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:4000/healthz', timeout=4)"]
ENTRYPOINT ["/opt/neev/bin/neev-gateway"]
CMD ["serve", "--config=/etc/neev-gateway/proxy_config.yaml", "--state=/var/lib/neev-gateway", "--host=0.0.0.0"]
