# One image for every service: `docker run hal9-migration run router`.
FROM python:3.13-slim AS build
RUN python -m venv /opt/hal9
WORKDIR /src
COPY deploy/requirements.lock deploy/requirements.lock
RUN /opt/hal9/bin/pip install --no-cache-dir --require-hashes -r deploy/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY hal9 hal9
COPY schemas schemas
COPY services services
COPY stack stack
COPY systems systems
RUN /opt/hal9/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin hal9
COPY --from=build /opt/hal9 /opt/hal9
# The root may be read-only: nothing is written but to standard output and /tmp.
ENV PATH=/opt/hal9/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["hal9"]
CMD ["--help"]
