# syntax=docker/dockerfile:1
# The static binary, Mozilla's root certificates from a crate, and an unprivileged user: what `make image` assembles without a
# container engine. The base of the build goes by tag, as its digest cannot be looked up everywhere this is built; the provenance
# of a published image names the one that it was built with.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
ARG TARGETARCH=amd64
RUN apt-get update && apt-get install --yes --no-install-recommends gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross xz-utils
COPY hack/cargo-tools /usr/local/bin/
RUN cargo-tools cargo-auditable
WORKDIR /src
COPY . .
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    case "$TARGETARCH" in arm64) arch=aarch64 ;; *) arch=x86_64 ;; esac \
    && rustup target add "$arch-unknown-linux-musl" \
    && hack/release "$arch-unknown-linux-musl" \
    && mkdir -p /image/etc/ssl/certs \
    && cp "target/$arch-unknown-linux-musl/release/arcgis-credential-operator" /image/ \
    && cargo run --quiet --locked --package ca-bundle > /image/etc/ssl/certs/ca-certificates.crt \
    && printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > /image/etc/passwd \
    && printf 'root:x:0:\nnonroot:x:65532:\n' > /image/etc/group

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="arcgis-credential-operator" \
      org.opencontainers.image.description="Keeps ArcGIS access tokens fresh in Kubernetes Secrets" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
ENV PATH=/ SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/arcgis-credential-operator"]
CMD ["run"]
