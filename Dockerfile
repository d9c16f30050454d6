# The page, on a CPU: docker build -t captioner . && docker run -p 8080:8080 -v captioner:/data \
#   -e CAPTIONER_TOKEN=... captioner
# TensorFlow is only needed to build: it turns the default model into programs that run without.

FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && pip install --no-cache-dir /wheels/*.whl \
    && captioner export default \
    && cp -r "$(python -c 'from captioner.model_folder import find_folder; print(find_folder("default"))')/programs" /programs \
    && pip list --format=freeze --exclude captioner > /wheels/constraints.txt

FROM python:3.11-slim
COPY --from=build /wheels /wheels
# All that the package asks for, but what only the making of programs and training need.
RUN pip install --no-cache-dir --no-deps /wheels/*.whl \
    && python -c "from importlib.metadata import requires; \
        building = ('tensorflow', 'keras', 'h5py', 'setuptools', 'efficientnet'); \
        print(*(r for r in requires('captioner') \
            if 'extra ==' not in r and not r.startswith(building)), sep='\n')" > /tmp/needed \
    && pip install --no-cache-dir -r /tmp/needed -c /wheels/constraints.txt \
    && useradd --create-home --uid 1000 captioner \
    && install -d -o captioner -g captioner /data
COPY --from=build /programs /usr/local/lib/python3.11/site-packages/captioner/assets/default/programs
USER 1000
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/api/v1/health', timeout=4)"]
ENTRYPOINT ["captioner"]
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
