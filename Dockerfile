# docker build --tag affectlake .                                        reads lakes (no extra)
# docker build --build-arg EXTRAS=study --tag affectlake:study .         builds studies, with torch for the CPU
# docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/lake" affectlake versions
# TORCH is the index of the build of torch: https://download.pytorch.org/whl/cu128 has one for CUDA.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:${PYTHON}-slim
ARG EXTRAS=
ARG TORCH=https://download.pytorch.org/whl/cpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*'
COPY requirements.lock /tmp/requirements.lock
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/requirements.lock --extra-index-url "$TORCH" \
        "affectlake${EXTRAS:+[$EXTRAS]} @ file://$(echo /tmp/wheels/*.whl)" \
    && rm -r /tmp/wheels /tmp/requirements.lock
# any user may run it, with the home folder that caches and Prefect's state need
RUN mkdir --mode 1777 /home/user
ENV HOME=/home/user
USER 1000
WORKDIR /lake
ENTRYPOINT ["affectlake"]
CMD ["--help"]
