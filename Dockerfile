# A machine that only serves, as an image: docs/image.md.

# Any Debian or Ubuntu whose python3 is 3.11, 3.12 or 3.13; renew the date and the digest together.
ARG BASE=debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171


# What the locks name, every file checked against its hash.
FROM ${BASE} AS packages

# Debian keeps only the newest version of a package, so none can be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY deploy/install.py deploy/requirements.lock deploy/torch.lock deploy/torch-cpu.lock \
    deploy/cuda.lock deploy/

# Where pip looks, as it reads them from its environment; none is kept in the image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
ARG PIP_DEFAULT_TIMEOUT
ARG PIP_NO_CACHE_DIR=1
# cpu, cuda, or auto: the CPU build where pip's places have it.
ARG TORCH=auto
RUN python3 deploy/install.py /opt/torchscript-bundle deploy/requirements.lock --torch "${TORCH}"


# This package alone, in a tree of its own: a change of it leaves the large layer as it was.
FROM packages AS package

COPY pyproject.toml README.md LICENSE Transformer_handler_generalized.py ./
COPY deploy deploy/
COPY torchscript_bundle torchscript_bundle/
RUN /opt/torchscript-bundle/bin/pip install --no-deps --no-build-isolation --no-compile --no-index \
        --root /package --prefix /opt/torchscript-bundle . \
    && /opt/torchscript-bundle/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        -s /package -p / /package


# The large layer: without headers, test programs and pip, none of which serves; with bytecode, which
# a read-only root could not keep.
FROM packages AS slim

WORKDIR /opt/torchscript-bundle
RUN rm -rf include bin/pip* lib/python3*/site-packages/pip lib/python3*/site-packages/pip-* \
        lib/python3*/site-packages/torch/include lib/python3*/site-packages/torch/test \
    # torch looks for this program when it is imported.
    && find lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete \
    # Bytecode of what a worker imports: these it does not, and some of torch's tests do not compile.
    && bin/python -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(sympy|mpmath|networkx|torch/(testing|_inductor|_dynamo))/' lib


FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && groupadd --gid 10001 torchscript-bundle \
    && useradd --uid 10001 --gid 10001 --no-log-init --shell /usr/sbin/nologin \
        --home-dir /var/lib/torchscript-bundle torchscript-bundle \
    && install -d -o 10001 -g 10001 -m 0770 /var/lib/torchscript-bundle

COPY --from=slim /opt/torchscript-bundle /opt/torchscript-bundle
COPY --from=package /package /

LABEL org.opencontainers.image.title="torchscript-bundle" \
    org.opencontainers.image.description="Hugging Face transformers from TorchScript under TorchServe" \
    org.opencontainers.image.licenses="Apache-2.0"

# Everything that is written goes here: state, logs, unpacked archives, sockets.
ENV PATH=/opt/torchscript-bundle/bin:${PATH} \
    HOME=/var/lib/torchscript-bundle \
    TMPDIR=/var/lib/torchscript-bundle
WORKDIR /var/lib/torchscript-bundle
VOLUME /var/lib/torchscript-bundle
USER 10001:10001
EXPOSE 8080 8090
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=5s --start-period=2m --retries=3 \
    CMD ["python", "-I", "-c", "import http.client as http; \
admin = http.HTTPConnection('127.0.0.1', 8090, timeout=4); \
admin.request('GET', '/live'); \
raise SystemExit(admin.getresponse().status != 200)"]

# tini takes in what ends without a parent, which the first process of a container has to do.
ENTRYPOINT ["tini", "--", "torchscript-bundle", "run", "--host", "0.0.0.0", \
    "--admin-host", "0.0.0.0", "--models", "/models", \
    "--run-dir", "/var/lib/torchscript-bundle/run", "--log-dir", "/var/lib/torchscript-bundle/logs"]

# An archive, or a pattern of several; without one, /models is mounted.
ARG MODEL=model_store/README.md
COPY ${MODEL} /models/
