# mini in a container, for where there is no Linux to run it on:
#
#   docker build -t mini .
#   docker run --rm -it --privileged mini run alpine sh
#
# --privileged: mini mounts, makes namespaces and cgroups, and sets up a bridge, all inside this container.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
COPY . /src
RUN python3 -m venv /opt/mini && /opt/mini/bin/pip install --no-cache-dir /src

FROM ${PYTHON}
RUN apt-get update \
    && apt-get install -y --no-install-recommends libseccomp2 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/mini /opt/mini
ENV PATH=/opt/mini/bin:$PATH
# overlayfs takes no upper directory on another overlay, which this container's own root is
VOLUME /var/lib/mini
ENTRYPOINT ["mini"]
CMD ["--help"]
