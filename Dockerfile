# One image, every role: docker run pontual command-api
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep a rebuild short; what they hold is not part of any layer, so the binary is copied out.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p app && cp target/release/pontual /usr/local/bin/pontual

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/pontual pontual \
    && install -d -o pontual -g pontual -m 700 /var/lib/pontual
COPY --from=build /usr/local/bin/pontual /usr/local/bin/pontual
USER pontual
WORKDIR /var/lib/pontual
ENV PONTUAL_DATA_DIR=/var/lib/pontual PONTUAL_LISTEN=0.0.0.0:8080
VOLUME /var/lib/pontual
EXPOSE 8080
ENTRYPOINT ["pontual"]
CMD ["serve"]
